"""The gallery model's own classifier as the judge of a query."""

from __future__ import annotations

from torch import Tensor

from cmpnas.compat.base import Anchor, Batch, Loss, labelled
from cmpnas.models.heads import MarginClassifier


class Influence(Loss):
    """Margin softmax through the frozen gallery classifier alone (BCT's influence loss).

    `bct` with the query's own classifier fixed to the gallery's is this. Needs labels.
    """

    needs = ("labels",)

    def __init__(self, anchor: Anchor) -> None:
        super().__init__(anchor)
        self.frozen = MarginClassifier(anchor.classifier, kind=anchor.kind, margin=anchor.margin, scale=anchor.scale)
        self.frozen.requires_grad_(False)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean cross-entropy of the labelled items; 0 where none is labelled."""
        query, _, labels = labelled(batch)
        return self.frozen(query, labels) if len(labels) else 0.0 * batch.query.sum()

    def follow(self, classifier: Tensor, momentum: float) -> None:
        self.frozen.follow(classifier, momentum)
