"""Who teaches a query network: a frozen gallery space, or a mixer that learns too (AFF, Wu et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat import Anchor, CompatLoss
from cmpnas.data.augment import Augment
from cmpnas.data.items import blank
from cmpnas.distributed import gather
from cmpnas.errors import RecipeError
from cmpnas.models.heads import MarginClassifier
from cmpnas.models.mixer import Mixer
from cmpnas.train.loop import Plan, fit

#: Numbers of pictures, int64 ``(B,)``, to the features of each source, float ``(B, T, W)``.
Read = Callable[[np.ndarray], list[Tensor]]


class Frozen(nn.Module):
    """A gallery space that stays as it is."""

    def __init__(self, anchor: Anchor) -> None:
        super().__init__()
        # Not the anchor itself, nor a method of it: a running average of weights would copy all that it knows.
        self._look = lambda indices, view: anchor.look(indices, view)

    def forward(self, indices: Tensor, view: int, where: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings ``(B, D)`` of pictures ``indices``, their labels, and a loss of the teacher's own: 0."""
        gallery, labels = self._look(indices, view)
        return gallery.to(where), labels.to(where), torch.zeros((), device=where)

    def lead(self, loss: CompatLoss) -> None:
        """Nothing has moved."""


class Mixing(nn.Module):
    """A mixer and its classifier, which learn by labels.

    Args:
        read: features of the pictures that are learned from.
        start: their labels, the first class weights, and the softmax's kind, scale and margin.
        momentum: how much of a query's class weights stays in a step.

    Raises:
        RecipeError: no picture has a label.
    """

    def __init__(self, mixer: Mixer, read: Read, start: Anchor, momentum: float = 0.0) -> None:
        super().__init__()
        if not (start.labels >= 0).any():
            raise RecipeError("a mixer learns by labels, and no picture of data.pool has one; train it in two_stage.")
        self.mixer, self._momentum, self._read, self._labels = mixer, momentum, read, start.labels
        self.head = MarginClassifier(start.classifier, kind=start.kind, margin=start.margin, scale=start.scale)

    def forward(self, indices: Tensor, view: int, where: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """As `Frozen`; without gradients, but for the loss: that of the mixer on the labelled pictures."""
        labels = self._labels[indices].to(where)
        mixed = self.mixer([part.to(where) for part in self._read(indices.numpy())]).float()
        rows, codes = gather(mixed), gather(labels)
        known = codes >= 0
        # Gradients for the same weights as ever, where no picture is labelled.
        loss = self.head(rows[known], codes[known]) if known.any() else 0.0 * (rows.sum() + self.head.weight.sum())
        return F.normalize(mixed.detach()), labels, loss

    def lead(self, loss: CompatLoss) -> None:
        """After a step: ``w_q <- a w_q + (1 - a) w_mix`` in what ``loss`` keeps of the gallery's classifier."""
        loss.follow(self.head.weight.detach(), self._momentum)


def train_mixer(what: str, mixing: Mixing, count: int, plan: Plan, *, seed: int, saved: Path) -> None:
    """Train a mixer alone on the features of ``count`` pictures: the first of two stages."""

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        loss: Tensor = mixing(indices, view, images.device)[2]
        return loss

    fit(what, mixing, loss_at, blank(count), plan, augmentation=Augment(), seed=seed, saved=saved)
