"""Squared distance to the gallery embedding of the same picture."""

from __future__ import annotations

from torch import Tensor

from cmpnas.compat.base import Batch, Loss


class L2(Loss):
    """``|q - g|^2`` of the query as the network gave it and the unit gallery embedding (FitNet).

    Unlike `regression` it fixes the query's length too, which no cosine asks for. Needs no labels.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the batch."""
        return (batch.query - batch.gallery).square().sum(1).mean()
