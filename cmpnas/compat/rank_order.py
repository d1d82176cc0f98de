"""Rank order preservation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Batch, Loss

_NEAREST = 96
_TEMPERATURE = 0.1


class RankOrder(Loss):
    """A picture's neighbours in the order that the gallery model sees (ROP, Wu et al., ICLR 2023).

    Among the picture's 96 nearest gallery embeddings of the batch, itself included, every pair that the gallery model
    orders one way costs ``sigmoid`` of how much the query orders it the other way, at temperature .1. An order alone
    fixes no coordinates, but its terms are similarities to gallery embeddings. Needs no labels.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the batch and over pairs."""
        wanted = batch.gallery @ batch.gallery.T
        order = wanted.topk(min(_NEAREST, len(wanted)), dim=1).indices  # nearest first
        seen = (F.normalize(batch.query) @ batch.gallery.T).gather(1, order)
        first, second = torch.triu_indices(order.shape[1], order.shape[1], 1, device=seen.device)
        return torch.sigmoid((seen[:, second] - seen[:, first]) / _TEMPERATURE).mean()
