"""Pictures by index, whatever they are stored in; and what an encoder is fed."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cmpnas.errors import DataError
from cmpnas.progress import track

_MEMORY_LIMIT = 2 * 2**30  # bytes of decoded pictures that are kept rather than decoded again
_CHUNK = 512
_GAP = 3  # sides of what a decoder makes smaller over those that are wanted, at least: pixels differ by half a level


class Images(Protocol):
    """A numbered collection of pictures of one size."""

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> Tensor:
        """The pictures at ``indices``: uint8 ``(B, 3, S, S)``."""
        ...


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels to the float32 that every encoder takes: [0, 255] to [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def in_memory(images: Images, size: int) -> Images:
    """The same pictures decoded once, where they fit in two gigabytes."""
    if isinstance(images, ArrayImages) or len(images) * 3 * size * size > _MEMORY_LIMIT:
        return images
    chunks = np.array_split(np.arange(len(images)), max(1, -(-len(images) // _CHUNK)))
    pixels = torch.empty(len(images), 3, size, size, dtype=torch.uint8)
    for chunk in track(chunks, "read pictures", total=len(chunks)):
        pixels[torch.from_numpy(chunk)] = images.read(chunk)
    return ArrayImages(pixels)


@dataclass(frozen=True)
class ArrayImages:
    """Pictures held as one uint8 tensor ``(N, 3, S, S)``."""

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: np.ndarray) -> Tensor:
        return self.pixels[torch.from_numpy(np.asarray(indices, np.int64))]


@dataclass(frozen=True)
class RawImages:
    """Pictures in a numpy array or memory map, uint8 ``(N, H, W)`` or ``(N, H, W, 3)``, resized on reading."""

    pixels: np.ndarray
    size: int

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: np.ndarray) -> Tensor:
        taken = torch.from_numpy(np.ascontiguousarray(self.pixels[indices]))
        if taken.ndim == 3:
            taken = taken[..., None].expand(-1, -1, -1, 3)
        return _resize(taken.permute(0, 3, 1, 2), self.size)


@dataclass(frozen=True)
class EncodedImages:
    """JPEG or PNG strings one after another: picture ``i`` is ``blob[offsets[i]:offsets[i + 1]]``."""

    blob: np.ndarray
    offsets: np.ndarray
    size: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def read(self, indices: np.ndarray) -> Tensor:
        def decode(index: int) -> np.ndarray:
            encoded = self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()
            return _decode(io.BytesIO(encoded), f"picture {index}", self.size)

        return _together(decode, indices)


@dataclass(frozen=True)
class FileImages:
    """Picture files, anything that Pillow reads, or one box of each.

    Attributes:
        root: the folder that the names start from.
        names: text ``(N,)``, paths of the files.
        boxes: ``(N, 4)``, left, top, right, bottom in pixels of the file's picture; None for whole pictures.
    """

    root: Path
    names: np.ndarray
    size: int
    boxes: np.ndarray | None = None

    @staticmethod
    def that_exist(root: Path, names: np.ndarray, size: int) -> FileImages:
        """Whole pictures, or a `DataError` where files are missing."""
        missing = [name for name in names if not os.path.isfile(os.path.join(root, name))]
        if missing:
            raise DataError(f"{len(missing)} of {len(names)} pictures are missing, first {root / missing[0]}.")
        return FileImages(root, names, size)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, indices: np.ndarray) -> Tensor:
        def decode(index: int) -> np.ndarray:
            path = self.root / self.names[index]
            return _decode(path, str(path), self.size, None if self.boxes is None else self.boxes[index].tolist())

        return _together(decode, indices)


def _together(decode, indices: np.ndarray) -> Tensor:  # type: ignore[no-untyped-def]
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a picture too large to trust is an error
    with ThreadPoolExecutor(max_workers=4) as pool:  # Pillow lets go of the interpreter lock
        return torch.from_numpy(np.stack(list(pool.map(decode, indices)))).permute(0, 3, 1, 2)


def _decode(source: io.BytesIO | Path, name: str, size: int, box: Sequence[float] | None = None) -> np.ndarray:
    """uint8 ``(size, size, 3)`` of the picture, upright and on white, or of as much of ``box``, in pixels as they are
    stored, as is in it."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(source) as picture:
            width, height = picture.size
            left, top, right, bottom = (0, 0, width, height) if box is None else box
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
            if left >= right or top >= bottom:
                raise DataError(f"{name} is {width} x {height} px; nothing of box {box} is in it.")
            if picture.mode[0] in "IF":
                raise DataError(f"{name} holds {picture.mode} numbers, not bytes; make an 8-bit picture of it.")
            # A JPEG's decoder averages pixels for nothing; the end of the way stays for the filter that is promised.
            wide, high = _GAP * size * width / (right - left), _GAP * size * height / (bottom - top)
            picture.draft("RGB", (ceil(wide), ceil(high)))
            across, down = picture.size[0] / width, picture.size[1] / height
            part = (left * across, top * down, right * across, bottom * down)
            shown: Image.Image = picture
            if box is None:  # phones store what they see, and how it has to be turned
                shown = ImageOps.exif_transpose(picture)
                part = (0, 0, *shown.size)
            if shown.has_transparency_data:
                ground = Image.new("RGBA", shown.size, "white")
                shown = Image.alpha_composite(ground, shown.convert("RGBA"))
            return np.asarray(shown.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, part))
    except DataError:
        raise
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise DataError(f"{name} cannot be decoded ({fault}); replace or remove it.") from None


def _resize(pixels: Tensor, size: int) -> Tensor:
    """uint8 ``(B, 3, H, W)`` to ``(B, 3, size, size)``: the whole picture, anti-aliased."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    resized = F.interpolate(pixels.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8)
