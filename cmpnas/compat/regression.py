"""Regression onto the gallery embedding of the same picture."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat.base import Anchor, Batch


class Regression(nn.Module):
    """``1 - cos(q, g)``, half the squared distance of unit vectors (FitNet; AML's "reg" variant).

    Needs no labels.
    """

    def __init__(self, anchor: Anchor) -> None:
        super().__init__()

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the batch."""
        return (1 - (F.normalize(batch.query) * batch.gallery).sum(1)).mean()
