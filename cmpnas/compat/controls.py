"""Controls that must fail: they transfer relations or decisions, and nothing ties the query to the gallery's space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat.base import Anchor, Batch, Loss, labelled
from cmpnas.models.heads import MarginClassifier

_TEMPERATURE = 4.0
_TINY = 1e-7


class Vanilla(Loss):
    """Margin softmax through a classifier of the query's own alone: a network that knows no gallery, a control.

    Its homogeneous score is what a small model on both sides reaches by labels. Needs labels.
    """

    needs = ("labels",)

    def __init__(self, anchor: Anchor) -> None:
        super().__init__(anchor)
        start = torch.randn_like(anchor.classifier)
        self.own = MarginClassifier(start, kind=anchor.kind, margin=anchor.margin, scale=anchor.scale)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: mean cross-entropy of the labelled items; 0 where none is labelled."""
        query, _, labels = labelled(batch)
        return self.own(query, labels) if len(labels) else 0.0 * (batch.query.sum() + self.own.weight.sum())


class KD(Loss):
    """Class probabilities through a classifier of the query's own (Hinton et al., 2015): a control.

    The own classifier starts at random, so the embedding space is free.
    """

    needs = ("frozen",)

    def __init__(self, anchor: Anchor) -> None:
        super().__init__(anchor)
        self.register_buffer("theirs", anchor.classifier * anchor.scale, persistent=False)
        self.own = nn.Linear(anchor.classifier.shape[1], len(anchor.classifier))

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: KL divergence at temperature 4, mean over the batch."""
        wanted = torch.log_softmax(batch.gallery @ self.theirs.T / _TEMPERATURE, 1)  # type: ignore[operator]
        seen = torch.log_softmax(self.own(batch.query) / _TEMPERATURE, 1)
        return _TEMPERATURE**2 * F.kl_div(seen, wanted, reduction="batchmean", log_target=True)


class RKD(Loss):
    """Distances and angles within the batch (RKD, Park et al., CVPR 2019): a control."""

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: 25 times the distance term plus 50 times the angle term, as published."""
        query = F.normalize(batch.query)
        distance = F.smooth_l1_loss(_distances(query), _distances(batch.gallery))
        return 25 * distance + 50 * F.smooth_l1_loss(_angles(query), _angles(batch.gallery))


class PKT(Loss):
    """Neighbour probabilities within the batch (PKT, Passalis and Tefas, ECCV 2018): a control."""

    def forward(self, batch: Batch) -> Tensor:
        """Scalar: KL divergence, mean over the batch."""
        wanted, seen = _neighbours(batch.gallery), _neighbours(F.normalize(batch.query))
        return (wanted * ((wanted + _TINY) / (seen + _TINY)).log()).sum(1).mean()


def _distances(unit: Tensor) -> Tensor:
    """Distances of all pairs over their mean: ``(N (N - 1),)``."""
    pairs = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    distance = (2 - 2 * unit @ unit.T)[pairs].clamp_min(1e-12).sqrt()
    return distance / distance.mean()


def _angles(unit: Tensor) -> Tensor:
    """Cosine of the angle at j between i and k: ``(N, N, N)``."""
    side = F.normalize(unit[None] - unit[:, None], dim=2)
    return side @ side.transpose(1, 2)


def _neighbours(unit: Tensor) -> Tensor:
    """``(1 + cos) / 2`` to the others, as probabilities: ``(N, N)``."""
    similarity = ((1 + unit @ unit.T) / 2) * (1 - torch.eye(len(unit), device=unit.device))
    return similarity / similarity.sum(1, keepdim=True)
