"""Contextual similarity distillation: a picture's relations as the gallery model sees them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cmpnas.compat.base import Anchor, Batch, Loss

_TEMPERATURE = 0.05  # of both sides: with two, the gallery embedding itself would not be the minimum
_CONTEXT = 8192  # pictures that similarities are taken to


class CSD(Loss):
    """What other pictures are to the query, as to the gallery model (CSD, Wu et al., CVPR 2022).

    ``KL(softmax(g F / t) || softmax(q F / t))`` with ``F`` the gallery embeddings of
    training pictures. The paper takes each picture's nearest; here it is one sample of all, which costs less than
    gathering and, measured on the embedded products, teaches more, as pictures that are far must stay far too. Where
    regression treats all directions alike, this spends the query's few weights on those that tell pictures apart.
    Needs no labels.
    """

    needs = ("frozen",)

    def __init__(self, anchor: Anchor) -> None:
        super().__init__(anchor)
        some = torch.randperm(len(anchor.embeddings), generator=torch.Generator().manual_seed(0))[:_CONTEXT]
        self.register_buffer("context", anchor.embeddings[some], persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the batch."""
        seen, wanted = (
            torch.log_softmax(side @ self.context.T / _TEMPERATURE, 1)  # type: ignore[operator]
            for side in (F.normalize(batch.query), batch.gallery)
        )
        return F.kl_div(seen, wanted, reduction="batchmean", log_target=True)
