"""Learning compatible embeddings: own class weights on the gallery's centres, items inside its boundaries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Anchor, Batch, Loss, labelled
from cmpnas.models.heads import MarginClassifier

_ALIGN, _BOUND = 100.0, 1.0
_ROWS = 65_536  # at once


class LCE(Loss):
    """Margin softmax with class weights held to the gallery's, inside its bounds (LCE, Meng et al., ICCV 2021).

    The weights' squared distance counts 100 times; and a query should be no farther from the gallery's centre of its
    class than the farthest gallery embedding of that class is. Needs labels.
    """

    needs = ("labels", "frozen")

    def __init__(self, anchor: Anchor) -> None:
        super().__init__(anchor)
        self.own = MarginClassifier(anchor.classifier, kind=anchor.kind, margin=anchor.margin, scale=anchor.scale)
        self.register_buffer("centres", anchor.classifier, persistent=False)
        bound = torch.ones(len(anchor.classifier))
        for rows in torch.nonzero(anchor.labels >= 0)[:, 0].split(_ROWS):
            labels = anchor.labels[rows]
            bound.scatter_reduce_(0, labels, (anchor.embeddings[rows] * anchor.classifier[labels]).sum(1), "amin")
        self.register_buffer("bound", bound, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: means over the labelled items; the pull of the class weights alone where none is labelled."""
        align = F.mse_loss(F.normalize(self.own.weight), self.centres)  # type: ignore[arg-type]
        query, _, labels = labelled(batch)
        if not len(labels):
            return _ALIGN * align + 0.0 * batch.query.sum()
        cosine = (F.normalize(query) * self.centres[labels]).sum(1)  # type: ignore[index]
        outside = F.relu(self.bound[labels] - cosine).mean()  # type: ignore[index]
        return self.own(query, labels) + _ALIGN * align + _BOUND * outside
