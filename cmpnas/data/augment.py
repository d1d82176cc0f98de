"""Random changes to a whole batch of tensors at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

_DRAWS = 12  # random numbers that a view takes


@dataclass(frozen=True)
class Augment:
    """How much a training picture may change; 0 leaves it alone.

    ``flip``: probability of mirroring. ``zoom``: share by which the scale varies either way.
    ``shift``: share of the side by which it moves. ``turn``: degrees either way. ``light``: share by
    which brightness and contrast vary. ``erase``: probability of a grey box of up to a half side.
    """

    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    turn: Annotated[float, Field(ge=0, le=180)] = 0.0
    light: Annotated[float, Field(ge=0, le=1)] = 0.0
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def draws(indices: Tensor, view: int) -> Tensor:
    """Random numbers for view ``view`` of pictures ``indices``, int64 ``(B,)``: float32 in [0, 1), ``(B, 12)``.

    They depend on nothing else, so a view is the same whenever and beside whatever it is shown (SplitMix64).
    """
    with np.errstate(over="ignore"):
        picture = _mix(indices.numpy().astype(np.uint64))
        mixed = _mix(picture[:, None] + np.arange(view * _DRAWS, (view + 1) * _DRAWS, dtype=np.uint64))
    return torch.from_numpy((mixed >> np.uint64(40)).astype(np.float32) / 2**24)


def evenly(count: int) -> Tensor:
    """``count`` rows of numbers in [0, 1) for `augment`, always the same, that lie as evenly as they can (Sobol).

    float32 ``(count, 12)``; of a few views about the right share is then mirrored, zoomed out and so on.
    """
    return torch.quasirandom.SobolEngine(_DRAWS, scramble=True, seed=0).draw(count)


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def augment(images: Tensor, how: Augment, chance: Tensor) -> Tensor:
    """Change each picture of ``(B, 3, H, W)`` float by its own row of ``chance`` ``(B, 12)``, as `draws` makes them."""
    free = iter(chance.unbind(1))

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * next(free)

    mirror, scale = torch.where(draw(0, 1) < how.flip, -1.0, 1.0), draw(1 - how.zoom, 1 + how.zoom)
    angle = torch.deg2rad(draw(-how.turn, how.turn))
    x, y = draw(-2 * how.shift, 2 * how.shift), draw(-2 * how.shift, 2 * how.shift)
    if how.flip or how.zoom or how.shift or how.turn:
        sine, cosine = scale * torch.sin(angle), scale * torch.cos(angle)
        rows = torch.stack([cosine * mirror, -sine, x, sine * mirror, cosine, y], 1).view(-1, 2, 3)
        grid = F.affine_grid(rows, list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast, brightness = draw(1 - how.light, 1 + how.light), draw(-how.light, how.light)
    if how.light:
        images = (images * contrast[:, None, None, None] + brightness[:, None, None, None]).clamp_(-1, 1)
    if how.erase:
        side = images.shape[-1]
        line = torch.arange(side, device=images.device)
        box = images.new_ones(images.shape[0], 1, side, side, dtype=torch.bool)
        for axis in (2, 3):
            length, start = draw(0.15, 0.5) * side, draw(-0.1, 0.85) * side
            inside = (line >= start[:, None]) & (line < (start + length)[:, None])
            box &= inside[:, None, :, None] if axis == 2 else inside[:, None, None, :]
        box &= (draw(0, 1) < how.erase)[:, None, None, None]
        images = images.masked_fill(box, 0.0)
    return images
