"""Regression of the query and of its relations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Batch, Loss

_ASYMMETRIC, _SYMMETRIC = 0.75, 0.7  # near what was found best on birds, cars and products


class RAML(Loss):
    """Regression with relations, asymmetric and symmetric (RAML, Suma and Tolias, WACV 2023).

    ``sum (1 - q g)^2 + l1 MSE(Q G^T, G G^T) + l2 MSE(Q Q^T, G G^T)`` over the batch, relations off the diagonal. Needs
    no labels.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: each term a mean over the batch or its pairs."""
        query, gallery = F.normalize(batch.query), batch.gallery
        pairs = ~torch.eye(len(query), dtype=torch.bool, device=query.device)
        wanted = (gallery @ gallery.T)[pairs]
        own = (1 - (query * gallery).sum(1)).square().mean()
        asymmetric = F.mse_loss((query @ gallery.T)[pairs], wanted)
        symmetric = F.mse_loss((query @ query.T)[pairs], wanted)
        return own + _ASYMMETRIC * asymmetric + _SYMMETRIC * symmetric
