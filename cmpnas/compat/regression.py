"""Regression onto the gallery embedding of the same picture."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Batch, Loss


class Regression(Loss):
    """``1 - cos(q, g)``, half the squared distance of unit vectors (FitNet; AML's "reg" variant).

    Needs no labels.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the batch."""
        return (1 - (F.normalize(batch.query) * batch.gallery).sum(1)).mean()
