"""Decoupled differential distillation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Batch, Loss

_NEAREST = 10
_TOP, _INCONSISTENT, _CONSISTENT = 1.0, 50.0, 1.0


class D3still(Loss):
    """Differences of similarity between neighbours (D3still, Xie et al., CVPR 2024).

    Of a picture's ten nearest gallery embeddings, in the batch and as the gallery model sees them. Differences whose
    sign the query gets wrong, and so the order, cost fifty times as much as those that are merely of another size; a
    third term holds the similarity to the picture's own gallery embedding. Needs no labels.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: each term a mean over the batch."""
        wanted, order = (batch.gallery @ batch.gallery.T).topk(min(_NEAREST, len(batch.gallery)), dim=1)
        seen = (F.normalize(batch.query) @ batch.gallery.T).gather(1, order)
        difference = (seen[:, :, None] - seen[:, None]) - (wanted[:, :, None] - wanted[:, None])
        wrong = (seen[:, :, None] - seen[:, None]) * (wanted[:, :, None] - wanted[:, None]) < 0
        squared = difference.square()
        own = (1 - (F.normalize(batch.query) * batch.gallery).sum(1)).square().mean()
        inconsistent, consistent = (squared * wrong).mean(), (squared * ~wrong).mean()
        return _TOP * own + _INCONSISTENT * inconsistent + _CONSISTENT * consistent
