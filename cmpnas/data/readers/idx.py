"""The idx format of MNIST and its successors."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from cmpnas.data.images import RawImages
from cmpnas.data.settings import IdxSettings
from cmpnas.data.table import Table
from cmpnas.errors import DataError

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read(settings: IdxSettings, root: Path) -> Table:
    """All pairs one after another; column ``index`` counts within its pair."""
    pixels, columns = [], {"label": [], "file": [], "index": []}  # type: ignore[var-annotated]
    for name, (image_file, label_file) in settings.files.items():
        images, labels = read_idx(root / image_file), read_idx(root / label_file)
        if images.ndim != 3 or images.dtype != np.uint8:
            raise DataError(f"{root / image_file} holds {images.dtype}{images.shape}, not 8-bit pictures.")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DataError(f"{root / label_file} holds {labels.dtype}{labels.shape}, not one whole number a picture.")
        if len(images) != len(labels):
            raise DataError(
                f"{image_file} holds {len(images)} images but {label_file} {len(labels)} labels; they must be as many."
            )
        pixels.append(images)
        columns["label"].append(labels.astype(np.int64))
        columns["file"].append(np.full(len(labels), name))
        columns["index"].append(np.arange(len(labels)))
    if len({images.shape[1:] for images in pixels}) > 1:
        raise DataError("the idx files hold pictures of different sizes; use one pair.")
    together = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Table(RawImages(np.concatenate(pixels), settings.size), together)


def read_idx(path: Path) -> np.ndarray:
    """One idx file, gzipped or plain, as an array of its own type and shape.

    Raises:
        DataError: missing, not idx, or shorter than its header says.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name the folder that holds it with --data.") from None
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"{path} is damaged or truncated ({fault}); fetch it again.") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise DataError(f"{path} is not an idx file (its first bytes are {content[:4].hex() or 'none'}).")
    dims, kind = content[3], np.dtype(_TYPES[content[2]])
    shape = tuple(int.from_bytes(content[4 + 4 * d : 8 + 4 * d], "big") for d in range(dims))
    expected = 4 + 4 * dims + math.prod(shape) * kind.itemsize
    if len(content) != expected:
        raise DataError(f"{path} is truncated: {len(content)} bytes where its header says {expected}.")
    return np.frombuffer(content, kind, offset=4 + 4 * dims).reshape(shape)
