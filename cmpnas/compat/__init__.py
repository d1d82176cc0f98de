"""Losses that make a query network speak the gallery model's language; one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from cmpnas.compat.base import Anchor, Batch
from cmpnas.compat.bct import BCT
from cmpnas.compat.csd import CSD
from cmpnas.compat.regression import Regression

__all__ = ["LOSSES", "Anchor", "Batch", "CompatLoss"]

LOSSES: dict[str, Callable[[Anchor], nn.Module]] = {"bct": BCT, "csd": CSD, "regression": Regression}


class CompatLoss(nn.Module):
    """A weighted sum of losses by name, against one anchor."""

    def __init__(self, weights: Mapping[str, float], anchor: Anchor) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.parts = nn.ModuleDict({name: LOSSES[name](anchor) for name in weights})

    def forward(self, batch: Batch) -> Tensor:
        """Scalar loss of one batch."""
        total = batch.query.new_zeros(())
        for name, weight in self.weights.items():
            total = total + weight * self.parts[name](batch)
        return total
