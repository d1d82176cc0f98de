"""Random changes to a whole batch of tensors at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F


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


def augment(images: Tensor, how: Augment, generator: torch.Generator, share: tuple[int, int] = (0, 1)) -> Tensor:
    """Change each picture of ``(B, 3, H, W)`` float in its own way; same generator, same result.

    ``images`` are part ``share[0]`` of a batch of ``share[1]`` such parts, and change as they would in the whole.
    """
    part, parts = share

    def draw(low: float, high: float) -> Tensor:
        whole = torch.rand(parts, len(images), generator=generator)
        return low + (high - low) * whole[part]

    if how.flip or how.zoom or how.shift or how.turn:
        mirror = torch.where(draw(0, 1) < how.flip, -1.0, 1.0)
        scale, angle = draw(1 - how.zoom, 1 + how.zoom), torch.deg2rad(draw(-how.turn, how.turn))
        x, y = draw(-2 * how.shift, 2 * how.shift), draw(-2 * how.shift, 2 * how.shift)
        sine, cosine = scale * torch.sin(angle), scale * torch.cos(angle)
        rows = torch.stack([cosine * mirror, -sine, x, sine * mirror, cosine, y], 1).view(-1, 2, 3)
        grid = F.affine_grid(rows, list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if how.light:
        contrast = draw(1 - how.light, 1 + how.light)[:, None, None, None]
        brightness = draw(-how.light, how.light)[:, None, None, None]
        images = (images * contrast + brightness).clamp_(-1, 1)
    if how.erase:
        side = images.shape[-1]
        line = torch.arange(side)
        box = torch.ones(len(images), 1, side, side, dtype=torch.bool)
        for axis in (2, 3):
            length, start = draw(0.15, 0.5) * side, draw(-0.1, 0.85) * side
            inside = (line >= start[:, None]) & (line < (start + length)[:, None])
            box &= inside[:, None, :, None] if axis == 2 else inside[:, None, None, :]
        box &= (draw(0, 1) < how.erase)[:, None, None, None]
        images = images.masked_fill(box, 0.0)
    return images
