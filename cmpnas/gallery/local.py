"""Local features: a feature map turned into a few tokens."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from cmpnas.errors import DataError

#: ``norm``: the places whose vectors are longest, which a pooled feature is mostly made of (HOW's attention);
#: ``grid``: means over equal parts of the picture, in reading order.
Choice = Literal["norm", "grid"]


def local_tokens(maps: Tensor, count: int, by: Choice) -> Tensor:
    """``count`` vectors of each map: ``(B, C, H, W)`` to ``(B, count, C)``.

    Args:
        count: a square number for ``grid``.

    Raises:
        DataError: it is no map, or has fewer places.
    """
    if maps.ndim != 4 or maps.shape[2] * maps.shape[3] < count:
        shown = tuple(maps.shape[1:])
        raise DataError(f"{count} local features are wanted of {shown}, which is no map of as many places; lower them.")
    if by == "grid":
        side = round(count**0.5)
        return F.adaptive_avg_pool2d(maps, (side, side)).flatten(2).transpose(1, 2)
    places = maps.flatten(2).transpose(1, 2)
    longest = places.norm(dim=2).topk(count, dim=1).indices
    return places.gather(1, longest[:, :, None].expand(-1, -1, places.shape[2]))
