"""Losses of captions against pictures, all on a table of similarities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def infonce(logits: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy of the right ones among all, both ways; several may be right.

    Args:
        logits: ``(C, N)``, captions by pictures, scaled.
        same: bool ``(C, N)``, who belongs together; a row or a column with nobody counts nothing.
    """
    return (_one_way(logits, same) + _one_way(logits.T, same.T)) / 2


def _one_way(logits: Tensor, same: Tensor) -> Tensor:
    right = torch.logsumexp(logits.masked_fill(~same, -torch.inf), 1)
    losses = torch.logsumexp(logits, 1) - right
    counted = same.any(1)
    return losses[counted].mean() if counted.any() else logits.sum() * 0


def triplet(cosine: Tensor, same: Tensor, margin: float) -> Tensor:
    """Hinge of the least similar right one against the most similar wrong one, both ways (VSE++, eq. 6)."""
    return (_hardest(cosine, same, margin) + _hardest(cosine.T, same.T, margin)) / 2


def _hardest(cosine: Tensor, same: Tensor, margin: float) -> Tensor:
    right = cosine.masked_fill(~same, torch.inf).amin(1)
    wrong = cosine.masked_fill(same, -torch.inf).amax(1)
    counted = same.any(1) & ~same.all(1)
    return F.relu(margin + wrong - right)[counted].mean() if counted.any() else cosine.sum() * 0


def follow(logits: Tensor, teacher: Tensor) -> Tensor:
    """How much less than the teacher's own a student's choice among candidates tells: KL, both ``(C, K)`` logits."""
    return F.kl_div(torch.log_softmax(logits, 1), torch.log_softmax(teacher, 1), log_target=True, reduction="batchmean")


def hardest(cosine: Tensor, same: Tensor, count: int) -> Tensor:
    """For each caption one right picture, then the ``count`` most similar wrong ones: int64 ``(C, 1 + count)``.

    Of several right ones the most similar is taken. Where wrong ones are fewer, right ones fill up.
    """
    right = cosine.masked_fill(~same, -torch.inf).argmax(1, keepdim=True)
    wrong = (cosine - 4.0 * same).topk(min(count, cosine.shape[1] - 1), 1).indices
    return torch.cat([right, wrong], 1)
