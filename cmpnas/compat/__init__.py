"""Losses that make a query network speak the gallery model's language; one file each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from torch import Tensor, nn

from cmpnas.compat.base import Anchor, Batch, Loss
from cmpnas.compat.bct import BCT
from cmpnas.compat.contrastive import Contrastive
from cmpnas.compat.controls import KD, PKT, RKD, Vanilla
from cmpnas.compat.csd import CSD
from cmpnas.compat.d3still import D3still
from cmpnas.compat.influence import Influence
from cmpnas.compat.l2 import L2
from cmpnas.compat.lce import LCE
from cmpnas.compat.raml import RAML
from cmpnas.compat.rank_order import RankOrder
from cmpnas.compat.regression import Regression
from cmpnas.compat.shared_head import SharedHead
from cmpnas.distributed import gather
from cmpnas.errors import RecipeError

__all__ = ["LOSSES", "Anchor", "Batch", "CompatLoss"]

LOSSES: dict[str, type[Loss]] = {
    "bct": BCT,
    "contrastive": Contrastive,
    "csd": CSD,
    "d3still": D3still,
    "influence": Influence,
    "kd": KD,
    "l2": L2,
    "lce": LCE,
    "pkt": PKT,
    "raml": RAML,
    "rank_order": RankOrder,
    "regression": Regression,
    "rkd": RKD,
    "shared_head": SharedHead,
    "vanilla": Vanilla,
}


def must_have_labels(weights: Iterable[str], labelled: bool) -> None:
    """Raise a `RecipeError` if a loss by one of these names needs labels and no picture to learn from is labelled."""
    helpless = [name for name in weights if "labels" in LOSSES[name].needs]
    if helpless and not labelled:
        free = ", ".join(name for name, loss in LOSSES.items() if "labels" not in loss.needs)
        raise RecipeError(
            f"loss {helpless[0]!r} needs labels and no picture of data.pool has one; without them: {free}."
        )


class CompatLoss(nn.Module):
    """A weighted sum of losses by name, against one anchor.

    Raises:
        RecipeError: a loss needs labels and no picture has one.
    """

    def __init__(self, weights: Mapping[str, float], anchor: Anchor) -> None:
        super().__init__()
        must_have_labels(weights, bool((anchor.labels >= 0).any()))
        self.weights = dict(weights)
        self.parts = nn.ModuleDict({name: LOSSES[name](anchor) for name in weights})

    def forward(self, batch: Batch) -> Tensor:
        """Scalar loss of one batch, of all processes' shares of it together."""
        batch = Batch(gather(batch.query), gather(batch.gallery), gather(batch.labels))
        total = batch.query.new_zeros(())
        for name, weight in self.weights.items():
            total = total + weight * self.parts[name](batch)
        return total

    def follow(self, classifier: Tensor, momentum: float) -> None:
        """Let what is kept of the gallery's classifier follow it, as AFF's query side does (`Loss.follow`)."""
        for part in self.parts.values():
            cast(Loss, part).follow(classifier, momentum)
