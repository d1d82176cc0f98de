"""The embedded data set ``shop``: a renderer of products, catalogue shots and consumer shots.

Every picture is drawn from signed distances on a pixel grid, a whole batch at a time. The result
depends on (seed, identity, role, view) alone, not on the batch that it was drawn in.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cmpnas.data.shop_identities import Identities

Role = Literal["catalogue", "consumer"]
_TILE = 512  # side of the shared noise tile
_VIEW = 40  # uniform numbers per view; a view reads a fixed slot of them
_BLOBS = 3  # background pieces, and as many occluders


def render(
    identities: Identities, who: np.ndarray, view: np.ndarray, role: Role, *, seed: int, size: int = 64
) -> Tensor:
    """Render one picture per entry of ``who``.

    Args:
        who: int ``(B,)``, rows of ``identities``.
        view: int ``(B,)``, the number of the shot of that product.
        role: ``catalogue`` (clean, on white) or ``consumer`` (turned, cluttered, dim, noisy).
        seed: of the shots; the products have their own.
        size: side of the picture in pixels.

    Returns:
        uint8 ``(B, 3, size, size)``.
    """
    u = _uniforms(len(identities), who, view, role, seed)
    consumer = role == "consumer"
    x, y, pixel = _pose(u, size, consumer)
    canvas = _background(u, size, seed) if consumer else _studio(u, size)
    canvas = _draw_product(canvas, identities, who, x, y, pixel)
    if consumer:
        canvas = _occlude(canvas, u, size)
        canvas = _camera(canvas, u, size, seed)
    return canvas.clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _uniforms(n: int, who: np.ndarray, view: np.ndarray, role: Role, seed: int) -> Tensor:
    """Float32 ``(B, _VIEW)`` in [0, 1): one row per shot, whichever batch asks for it."""
    rows = np.empty((len(who), _VIEW), np.float32)
    for v in np.unique(view):
        table = np.random.default_rng([seed, len(role), int(v)]).random((n, _VIEW), np.float32)
        rows[view == v] = table[who[view == v]]
    return torch.from_numpy(rows)


def _grid(size: int) -> tuple[Tensor, Tensor]:
    line = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
    return line[None, None, :], line[None, :, None]


def _col(u: Tensor, i: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Column ``i`` stretched to [low, high), shaped ``(B, 1, 1)``."""
    return (low + (high - low) * u[:, i])[:, None, None]


def _pose(u: Tensor, size: int, consumer: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Product coordinates of every pixel: similarity plus, for consumers, perspective."""
    turn, shrink, shift, tilt = (0.4, (0.95, 1.3), 0.15, 0.15) if consumer else (0.05, (1.02, 1.12), 0.03, 0.0)
    angle, scale = _col(u, 0, -turn, turn), _col(u, 1, *shrink)
    gx, gy = _grid(size)
    gx, gy = gx - _col(u, 2, -shift, shift), gy - _col(u, 3, -shift, shift)
    depth = 1 + _col(u, 4, -tilt, tilt) * gx + _col(u, 5, -tilt, tilt) * gy
    aspect = _col(u, 6, 0.88, 1.14) if consumer else 1.0
    x = scale * (torch.cos(angle) * gx + torch.sin(angle) * gy) / depth
    y = scale * aspect * (torch.cos(angle) * gy - torch.sin(angle) * gx) / depth
    return x, y, scale * (2.0 / size)


def _cover(distance: Tensor, pixel: Tensor | float) -> Tensor:
    """Signed distance (negative inside) to an anti-aliased coverage in [0, 1]."""
    return (0.5 - distance / pixel).clamp_(0, 1)


def _box(x: Tensor, y: Tensor, half_x: Tensor | float, half_y: Tensor | float) -> Tensor:
    return torch.maximum(x.abs() - half_x, y.abs() - half_y)


def _paint(canvas: Tensor, cover: Tensor, colour: Tensor) -> Tensor:
    """Lay ``colour`` (B, 3) over ``canvas`` where ``cover`` (B, H, W) says so."""
    return torch.lerp(canvas, colour[:, :, None, None], cover[:, None])


def _draw_product(canvas: Tensor, ids: Identities, who: np.ndarray, x: Tensor, y: Tensor, pixel: Tensor) -> Tensor:
    def take(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values[who])

    def scalar(values: np.ndarray) -> Tensor:
        return take(values).float()[:, None, None]

    height = scalar(ids.half_height)
    place = ((y / height + 1) * 3.5).clamp_(0, 6.999)
    knot = place.long()
    profile = take(ids.profile)
    flat = knot.flatten(1)
    low = profile.gather(1, flat).view_as(knot)
    high = profile.gather(1, flat + 1).view_as(knot)
    width = torch.lerp(low, high, place - knot)
    body = torch.maximum(x.abs() - width, y.abs() - height)

    part = _part(take(ids.category), x, y, height, profile, scalar(ids.part_size))
    part_cover = _cover(part, pixel) * scalar(ids.part_on)
    over = scalar((ids.category == 4) | (ids.category == 7))  # belt and lid lie on the body
    canvas = _paint(canvas, part_cover * (1 - over), take(ids.part_colour))

    inside = _cover(body, pixel)
    canvas = _paint(canvas, inside, take(ids.body_colour))
    pattern = _pattern(take(ids.pattern), x, y, scalar(ids.angle), scalar(ids.frequency), height)
    canvas = _paint(canvas, inside * pattern, take(ids.pattern_colour))
    stamp = _print(
        take(ids.print_shape), x - scalar(ids.print_x), y - scalar(ids.print_y), scalar(ids.print_size), pixel
    )
    canvas = _paint(canvas, inside * stamp, take(ids.print_colour))
    canvas = _paint(canvas, part_cover * over, take(ids.part_colour))
    # A soft side light gives the body its roundness.
    shade = 1 - 0.32 * inside * (x / (width + 0.05)).clamp(-1, 1).add(0.35).square()
    return canvas * shade[:, None]


def _part(category: Tensor, x: Tensor, y: Tensor, height: Tensor, profile: Tensor, size: Tensor) -> Tensor:
    """Signed distance of the part that goes with each category (`PARTS`)."""
    side = profile[:, 3:6].mean(1)[:, None, None]
    top = profile[:, 0][:, None, None]
    mirror = x.abs()
    handle = (torch.hypot(x - side, y) - 0.24 * size).abs() - 0.055
    handles = (torch.hypot(mirror - side, y + 0.1) - 0.17 * size).abs() - 0.045
    cap = _box(x, y + height + 0.02, top * 0.9 + 0.03, 0.09 * size)
    lid = _box(x, y + height - 0.03, top + 0.06, 0.08 * size)
    sx, sy = mirror - 0.45, y + height * 0.62
    sleeves = _box(0.8 * sx + 0.6 * sy, 0.8 * sy - 0.6 * sx, 0.30 * size, 0.12)
    belt = _box(x, y + 0.1, profile[:, 3][:, None, None] + 0.02, 0.05 * size)
    strap = torch.maximum((torch.hypot(x, y + height) - 0.32 * size).abs() - 0.045, y + height - 0.05)
    tassels = torch.hypot(mirror - profile[:, 0][:, None, None], y.abs() - height) - 0.11 * size
    every = [handle, cap, handles, sleeves, belt, strap, cap, lid, handles, tassels]
    distance = every[-1]
    for index, other in enumerate(every[:-1]):
        distance = torch.where((category == index)[:, None, None], other, distance)
    return distance


def _pattern(kind: Tensor, x: Tensor, y: Tensor, angle: Tensor, frequency: Tensor, height: Tensor) -> Tensor:
    """Coverage of the second colour: plain, striped, checked, dotted, banded."""
    along = (torch.cos(angle) * x + torch.sin(angle) * y) * frequency
    across = (torch.cos(angle) * y - torch.sin(angle) * x) * frequency
    wave, weave = torch.sin(2 * along), torch.sin(2 * across)
    stripes = (0.5 + 3 * wave).clamp_(0, 1)
    checks = (0.5 + 5 * wave * weave).clamp_(0, 1)
    dots = (0.5 + 4 * (wave + weave - 0.9)).clamp_(0, 1)
    band = (0.5 + 12 * (0.2 - (y / height - torch.cos(2 * angle) * 0.45).abs())).clamp_(0, 1)
    cover = torch.zeros_like(x)
    for index, other in ((1, stripes), (2, checks), (3, dots), (4, band)):
        cover = torch.where((kind == index)[:, None, None], other, cover)
    return cover


def _print(kind: Tensor, x: Tensor, y: Tensor, size: Tensor, pixel: Tensor) -> Tensor:
    """Coverage of the printed mark: none, disc, triangle, square, star, flower, ring."""
    lobes = torch.tensor([1.0, 1.0, 3.0, 4.0, 5.0, 6.0, 1.0])[kind][:, None, None]
    depth = torch.tensor([0.0, 0.0, 0.33, 0.2, 0.42, 0.3, 0.0])[kind][:, None, None]
    radius, theta = torch.hypot(x, y), torch.atan2(x, -y)
    distance = radius - size * (1 + depth * torch.cos(lobes * theta))
    ring = (radius - size).abs() - 0.35 * size
    distance = torch.where((kind == 6)[:, None, None], ring, distance)
    return _cover(distance, pixel) * (kind > 0)[:, None, None]


def _studio(u: Tensor, size: int) -> Tensor:
    """A near-white sweep, a little darker below."""
    _, gy = _grid(size)
    level = _col(u, 7, 0.92, 0.98) - 0.05 * (gy + 1) * _col(u, 8)
    return level[:, None].expand(-1, 3, size, size).contiguous()


def _background(u: Tensor, size: int, seed: int) -> Tensor:
    """Two colours mixed by soft texture, and a few pieces of other things."""
    first, second = u[:, 9:12] * 0.8 + 0.1, u[:, 12:15] * 0.8 + 0.1
    mix = _crop(_tile(seed, smooth=True), u[:, 15], u[:, 16], size)
    canvas = torch.lerp(first[:, :, None, None], second[:, :, None, None], mix[:, None])
    return _blobs(canvas, u, 17, size, presence=0.5, reach=0.95)


def _blobs(canvas: Tensor, u: Tensor, start: int, size: int, *, presence: float, reach: float) -> Tensor:
    """Discs and boxes of random colour; the parameters are re-mixed from a few columns."""
    gx, gy = _grid(size)
    for k in range(_BLOBS):
        r = (u[:, start : start + 7] * (7.31 + 3.77 * k)) % 1.0
        cx, cy = (_col(r, 0, -reach, reach), _col(r, 1, -reach, reach))
        disc = torch.hypot(gx - cx, gy - cy) - _col(r, 2, 0.10, 0.34)
        box = _box(gx - cx, gy - cy, _col(r, 2, 0.06, 0.4), _col(r, 3, 0.06, 0.3))
        distance = torch.where(_col(r, 4) < 0.5, disc, box)
        cover = _cover(distance, 2.0 / size) * (_col(r, 5) < presence)
        colour = torch.stack([r[:, 6], (r[:, 6] * 3.7) % 1, (r[:, 6] * 9.1) % 1], 1)
        canvas = _paint(canvas, cover, colour)
    return canvas


def _occlude(canvas: Tensor, u: Tensor, size: int) -> Tensor:
    return _blobs(canvas, u, 24, size, presence=0.1, reach=0.75)


def _camera(canvas: Tensor, u: Tensor, size: int, seed: int) -> Tensor:
    """Light, colour cast, blur and sensor noise of a phone."""
    gx, gy = _grid(size)
    slope = 1 + _col(u, 31, -0.2, 0.2) * gx + _col(u, 32, -0.2, 0.2) * gy
    gain = _col(u, 33, 0.7, 1.15) * slope
    cast = 0.9 + 0.2 * u[:, 34:37, None, None]
    canvas = canvas * gain[:, None] * cast
    reach = max(1, round(size / 48))
    soft = torch.nn.functional.avg_pool2d(canvas, 2 * reach + 1, 1, reach, count_include_pad=False)
    canvas = torch.lerp(canvas, soft, _col(u, 37)[:, None])
    noise = _crop(_tile(seed, smooth=False), u[:, 38], u[:, 39], size)
    return canvas + noise[:, None] * _col(u, 35, 0.01, 0.05)[:, None]


@lru_cache(maxsize=4)
def _tile(seed: int, *, smooth: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 2 + smooth)
    tile = torch.randn(_TILE, _TILE, generator=generator)
    if smooth:  # texture of a few pixels' grain, squashed to [0, 1]
        tile = torch.nn.functional.avg_pool2d(tile[None, None], 9, 1, 4)[0, 0]
        tile = torch.sigmoid(8 * tile)
    return tile


def _crop(tile: Tensor, row: Tensor, column: Tensor, size: int) -> Tensor:
    """A window of the tile per picture, at an offset given in [0, 1)."""
    windows = tile.unfold(0, size, 1).unfold(1, size, 1)
    return windows[(row * windows.shape[0]).long(), (column * windows.shape[1]).long()]
