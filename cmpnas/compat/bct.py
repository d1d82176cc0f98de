"""Backward-compatible training, turned round: a small new model that an old large one understands."""

from __future__ import annotations

from torch import Tensor, nn

from cmpnas.compat.base import Anchor, Batch
from cmpnas.models.heads import MarginClassifier


class BCT(nn.Module):
    """Margin softmax through the frozen gallery classifier plus one through the query's own.

    CMP-NAS's weight-level loss (section 4.1; as HVS in later work, both terms of weight 1). The own
    classifier starts as the gallery's, which is a good guess and costs no further setting.
    """

    def __init__(self, anchor: Anchor) -> None:
        super().__init__()
        self.frozen = MarginClassifier(anchor.classifier, margin=anchor.margin, scale=anchor.scale)
        self.frozen.requires_grad_(False)
        self.own = MarginClassifier(anchor.classifier, margin=anchor.margin, scale=anchor.scale)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the labelled items of both cross-entropies, halved; 0 where none is labelled."""
        known = batch.labels >= 0
        if not known.any():
            return 0.0 * batch.query.sum()
        query, labels = batch.query[known], batch.labels[known]
        return 0.5 * (self.frozen(query, labels) + self.own(query, labels))
