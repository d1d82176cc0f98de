"""The coarse model: a vector of a text and a vector of a picture, neither knowing of the other.

Words are pooled by learned weights (the last layer of every text encoder), regions by a second set of learned weights,
so that the vectors of pictures are computed and indexed before anybody asks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.text.blocks import weighted_mean
from cmpnas.text.settings import CoarseSettings


class RegionPool(nn.Module):
    """Regions ``(N, R, C)`` to unit vectors ``(N, D)``: two linear maps of each region, pooled by learned weights or
    equal ones; ``scale`` turns cosines into the logits that both encoders are trained by."""

    def __init__(self, settings: CoarseSettings, channels: int) -> None:
        super().__init__()
        dim = settings.dim
        self.norm = nn.LayerNorm(channels)
        self.map = nn.Sequential(nn.Linear(channels, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.weigh = nn.Linear(channels, 1) if settings.pool == "weighted" else None
        self.log_scale = nn.Parameter(torch.tensor(math.log(14.0)))

    def forward(self, regions: Tensor) -> Tensor:
        x = self.norm(regions)
        mapped = self.map(x)
        if self.weigh is None:
            return F.normalize(mapped.mean(1))
        there = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return F.normalize(weighted_mean(mapped, self.weigh(x)[:, :, 0], there))

    @property
    def scale(self) -> Tensor:
        """At most 100, as CLIP's."""
        return self.log_scale.exp().clamp(max=100.0)
