"""Backward-compatible training, turned round: a small new model that an old large one understands."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cmpnas.compat.base import Anchor, Batch, Loss, labelled
from cmpnas.models.heads import MarginClassifier


class BCT(Loss):
    """Margin softmax through the frozen gallery classifier plus one through the query's own.

    CMP-NAS's weight-level loss (as HVS in later work), its two terms equal and averaged. The own
    classifier starts as the gallery's, which is a good guess and costs no further setting. Needs labels.
    """

    needs = ("labels",)

    def __init__(self, anchor: Anchor) -> None:
        super().__init__(anchor)
        head: dict[str, Any] = {"kind": anchor.kind, "margin": anchor.margin, "scale": anchor.scale}
        self.frozen = MarginClassifier(anchor.classifier, **head)
        self.frozen.requires_grad_(False)
        self.own = MarginClassifier(anchor.classifier, **head)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the labelled items of both cross-entropies, halved; 0 where none is labelled."""
        query, _, labels = labelled(batch)
        if not len(labels):
            return 0.0 * (batch.query.sum() + self.own.weight.sum())  # gradients for the same weights as ever
        return 0.5 * (self.frozen(query, labels) + self.own(query, labels))

    def follow(self, classifier: Tensor, momentum: float) -> None:
        self.frozen.follow(classifier, momentum)
