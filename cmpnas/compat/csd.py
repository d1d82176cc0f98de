"""Contextual similarity distillation: neighbours as the gallery model sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat.base import Anchor, Batch

_NEIGHBOURS = 256
_TEMPERATURE = 0.05  # of both sides: with two, the gallery embedding itself would not be the minimum
_BANK = 65_536  # neighbours are looked for among at most so many pictures
_SIMILARITIES = 2**24  # at once, while they are looked for


class CSD(nn.Module):
    """Kullback-Leibler divergence between what a picture's neighbours are to the gallery model and to the query.

    ``KL(softmax(g F / t) || softmax(q F / t))`` with ``F`` the gallery embeddings of the picture's 256 nearest training
    pictures, itself included (CSD, Wu et al., CVPR 2022). Where regression treats all directions alike, this spends the
    query's few weights on those that tell neighbours apart. Needs no labels.
    """

    def __init__(self, anchor: Anchor) -> None:
        super().__init__()
        bank = anchor.embeddings
        if len(bank) > _BANK:
            bank = bank[torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))[:_BANK]]
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("nearest", _nearest(anchor.embeddings, bank), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean over the batch."""
        context = self.bank[self.nearest[batch.rows].long()]  # type: ignore[index, operator]
        seen, wanted = (
            torch.log_softmax(torch.einsum("nd,nkd->nk", side, context) / _TEMPERATURE, 1)
            for side in (F.normalize(batch.query), batch.gallery)
        )
        return F.kl_div(seen, wanted, reduction="batchmean", log_target=True)


def _nearest(embeddings: Tensor, bank: Tensor) -> Tensor:
    """Rows of ``bank`` nearest to each embedding, in no order: int32 ``(N, K)``."""
    count = min(_NEIGHBOURS, len(bank))
    rows = max(1, _SIMILARITIES // len(bank))
    found = [(part @ bank.T).topk(count, dim=1, sorted=False).indices.int() for part in embeddings.split(rows)]
    return torch.cat(found)
