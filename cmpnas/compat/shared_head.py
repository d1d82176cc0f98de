"""One classifier for both sides: the gallery's own embeddings and those that are to be like them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Anchor, Batch, Loss, labelled
from cmpnas.models.heads import MarginClassifier


class SharedHead(Loss):
    """Margin softmax of both sides through one head that learns, and the KL divergence of what it says of them.

    The second and third term of cross-model transformations (URL, Wang et al., BMVC 2021; cross-model ensembles, Linial
    et al., WACV 2024), the first being `regression`. The divergence is of class probabilities without a margin; the
    gallery side of it is a fixed target. The head starts as the gallery's classifier. Needs labels.
    """

    needs = ("labels",)

    def __init__(self, anchor: Anchor) -> None:
        super().__init__(anchor)
        self.head = MarginClassifier(anchor.classifier, kind=anchor.kind, margin=anchor.margin, scale=anchor.scale)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: means over the labelled items, the cross-entropies halved; 0 where none is labelled."""
        query, gallery, labels = labelled(batch)
        if not len(labels):
            return 0.0 * (batch.query.sum() + self.head.weight.sum())  # gradients for the same weights as ever
        weights = self.head.scale * F.normalize(self.head.weight).T
        wanted = torch.log_softmax(gallery @ weights.detach(), 1)
        seen = torch.log_softmax(F.normalize(query) @ weights, 1)
        divergence = F.kl_div(seen, wanted, reduction="batchmean", log_target=True)
        return divergence + 0.5 * (self.head(query, labels) + self.head(gallery, labels))
