"""The coarse model: a vector of a text and a vector of a picture, neither knowing of the other.

Words are pooled by learned weights (the last layer of every text encoder), regions by a second set of learned weights,
so that the vectors of pictures are computed and indexed before anybody asks. Or pictures are what the fine model's own
summaries say of them, and only texts learn: the language of an index that stands.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.text.blocks import weighted_mean
from cmpnas.text.fine import FineModel, beside
from cmpnas.text.settings import CoarseSettings


class PicturePool(nn.Module):
    """Regions ``(N, R, C)`` to unit vectors ``(N, D)``; ``scale`` turns cosines into the logits that both encoders are
    trained by."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(14.0)))

    @property
    def scale(self) -> Tensor:
        """At most 100, as CLIP's."""
        return self.log_scale.exp().clamp(max=100.0)


class RegionPool(PicturePool):
    """Two linear maps of each region, pooled by learned weights or equal ones."""

    def __init__(self, settings: CoarseSettings, channels: int) -> None:
        super().__init__()
        dim = settings.dim
        self.norm = nn.LayerNorm(channels)
        self.map = nn.Sequential(nn.Linear(channels, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.weigh = nn.Linear(channels, 1) if settings.pool == "weighted" else None

    def forward(self, regions: Tensor) -> Tensor:
        x = self.norm(regions)
        mapped = self.map(x)
        if self.weigh is None:
            return F.normalize(mapped.mean(1))
        there = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return F.normalize(weighted_mean(mapped, self.weigh(x)[:, :, 0], there))


class SummaryPool(PicturePool):
    """What the fine model's summaries say of a picture, in the main ones of its ``fine.dim`` directions; none learns.

    Principal directions are those of PCA without a mean: what cosines lose least by.
    """

    directions: Tensor

    def __init__(self, settings: CoarseSettings, fine: FineModel) -> None:
        super().__init__()
        self.see: Sequence[nn.Module] = nn.ModuleList(  # type: ignore[assignment]
            copy.deepcopy(member.see).requires_grad_(False) for member in fine.members
        )
        self.register_buffer("directions", torch.zeros(fine.dim, settings.dim))

    def summaries(self, regions: Tensor) -> Tensor:
        """Of all members side by side, unit: ``(N, fine.dim)``."""
        return beside([F.normalize(F.normalize(see(regions), dim=2).mean(1)) for see in self.see])

    @torch.no_grad()
    def orient(self, summaries: Tensor) -> None:
        """Take the main directions of these ``(N, fine.dim)``."""
        towards = torch.linalg.eigh(summaries.double().T @ summaries.double()).eigenvectors.flip(1)
        self.directions.copy_(towards[:, : self.directions.shape[1]])

    def reduced(self, summaries: Tensor) -> Tensor:
        """Summaries of pictures, or of texts, in the main directions: unit ``(N, D)``."""
        return F.normalize(summaries @ self.directions)

    def forward(self, regions: Tensor) -> Tensor:
        return self.reduced(self.summaries(regions))
