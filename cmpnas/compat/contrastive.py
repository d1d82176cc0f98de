"""Asymmetric contrastive loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Batch, Loss, labelled

_MARGIN = 0.7
_NEGATIVES = 5


class Contrastive(Loss):
    """Queries near gallery embeddings of their class, away from others (AML, Budnik and Avrithis, CVPR 2021).

    Half the squared distance to those of the class, half the squared shortfall to ``m = .7`` of the five nearest others
    in the batch. Needs labels.
    """

    needs = ("labels",)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the labelled items of both terms, each a mean over its pairs; 0 where none is labelled."""
        query, gallery, labels = labelled(batch)
        if not len(labels):
            return 0.0 * batch.query.sum()
        squared = (2 - 2 * F.normalize(query) @ gallery.T).clamp_min(1e-12)
        same = labels[:, None] == labels[None]
        attract = (squared * same).sum(1) / same.sum(1)
        others = squared.masked_fill(same, float("inf")).sqrt()
        nearest = others.topk(min(_NEGATIVES, len(labels)), dim=1, largest=False).values
        repel = F.relu(_MARGIN - nearest).square().mean(1)  # none of the same class: infinitely far, no loss
        return 0.5 * (attract + repel).mean()
