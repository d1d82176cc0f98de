"""What an exported file is fed: pictures ready for the network, or a camera's own, prepared inside the graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.data.images import to_float
from cmpnas.data.items import Items
from cmpnas.errors import CmpnasError

_LARGEST = 8192  # pixels of a side
_AT_ONCE, _BYTES_AT_ONCE = 16, 16 * 2**20  # pictures, each of which a graph may look at many times


@dataclass(frozen=True)
class Pictures:
    """The input of a bundle's files.

    Attributes:
        size: side ``S`` of the pictures that the network was trained on.
        layout: ``nhwc`` or ``nchw`` for uint8 pictures that the graph prepares itself; None for float
            ``(N, 3, S, S)`` in [-1, 1].
        height, width: of the uint8 pictures.
    """

    size: int
    layout: str | None = None
    height: int = 0
    width: int = 0

    @staticmethod
    def parse(text: str | None, size: int) -> Pictures:
        """From ``--preprocess``: ``nhwc``, ``nchw``, or one of them with a size, ``nhwc:480x640`` (height x width).

        Raises:
            CmpnasError: it is something else.
        """
        if text is None:
            return Pictures(size)
        found = re.fullmatch(r"(nhwc|nchw)(?::(\d{1,5})x(\d{1,5}))?", text.lower())
        if not found:
            raise CmpnasError(f"--preprocess {text!r} is none of nhwc, nchw, nhwc:480x640 (height x width of uint8).")
        height, width = (int(side) if side else size for side in found.groups()[1:])
        if not (1 <= height <= _LARGEST and 1 <= width <= _LARGEST):
            raise CmpnasError(f"--preprocess {text!r}: each side must be 1 to {_LARGEST} pixels.")
        return Pictures(size, found[1], height, width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture."""
        if self.layout == "nhwc":
            return self.height, self.width, 3
        return (3, self.height, self.width) if self.layout else (3, self.size, self.size)

    def example(self, count: int, seed: int = 0) -> np.ndarray:
        """``count`` pictures of noise, as the files take them."""
        noise = np.random.default_rng(seed).integers(0, 256, (count, *self.shape), np.uint8)
        return noise if self.layout else to_float(torch.from_numpy(noise)).numpy()

    def read(self, items: Items, rows: np.ndarray) -> np.ndarray:
        """Some pictures of a data set as the files take them: ``(len(rows), *shape)``.

        They are kept at side ``S``; files that take another size are fed them resized to it.
        """
        pixels = items.images.read(rows)
        if self.layout is None:
            return to_float(pixels).contiguous().numpy()
        if pixels.shape[-2:] != (self.height, self.width):
            pixels = _resized(pixels.float(), (self.height, self.width)).round().clamp(0, 255).to(torch.uint8)
        return (pixels.permute(0, 2, 3, 1) if self.layout == "nhwc" else pixels).contiguous().numpy()

    def batches(self, items: Items, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The same in batches of as many as fit in little memory."""
        at_once = max(1, min(_AT_ONCE, _BYTES_AT_ONCE // int(np.prod(self.shape))))
        for start in range(0, len(rows), at_once):
            yield self.read(items, rows[start : start + at_once])

    def preparation(self) -> nn.Module:
        """From the files' input to float ``(N, 3, S, S)`` in [-1, 1]: what recipes do to pictures on reading."""
        return Prepare(self.layout == "nhwc", self.size) if self.layout else nn.Identity()

    def to_json(self) -> dict[str, Any]:
        """For people and for `from_json`."""
        whole = "whole picture, upright, on white where transparent, RGB, resized (bilinear, anti-aliased)"
        steps = [] if self.layout else [whole, "pixel / 127.5 - 1"]
        inside = []
        if self.layout:
            inside = [f"resize to {self.size} x {self.size} (bilinear, anti-aliased)", "pixel / 127.5 - 1"]
        return {
            "name": "images", "dtype": "uint8" if self.layout else "float32", "shape": ["batch", *self.shape],
            "layout": self.layout or "nchw", "colour": "RGB", "range": [0, 255] if self.layout else [-1, 1],
            "before": steps, "inside": inside, "network_size": self.size,
        }  # fmt: skip

    @staticmethod
    def from_json(content: Any) -> Pictures:
        """Read back what `to_json` wrote; raises KeyError, TypeError, IndexError or ValueError for anything else."""
        if content["dtype"] == "float32":
            return Pictures(int(content["network_size"]))
        sides = content["shape"][1:3] if content["layout"] == "nhwc" else content["shape"][2:4]
        return Pictures(int(content["network_size"]), str(content["layout"]), int(sides[0]), int(sides[1]))


class Prepare(nn.Module):
    """uint8 ``(N, H, W, 3)`` or ``(N, 3, H, W)`` to float ``(N, 3, S, S)`` in [-1, 1].

    Pixels are not rounded after resizing, as readers of data do: two runtimes would round a half to either side.
    """

    def __init__(self, channels_last: bool, size: int) -> None:
        super().__init__()
        self.channels_last, self.size = channels_last, size

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.permute(0, 3, 1, 2) if self.channels_last else images).float()
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = _resized(pixels, (self.size, self.size))
        return pixels / 127.5 - 1


class UnitEncoder(nn.Module):
    """A network followed by normalisation: ``(N, 3, S, S)`` float in [-1, 1] to unit ``(N, D)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.network(images))


def _resized(pixels: Tensor, sides: tuple[int, int]) -> Tensor:
    """Float pixels of the whole picture at another size."""
    return F.interpolate(pixels, sides, mode="bilinear", antialias=True, align_corners=False)
