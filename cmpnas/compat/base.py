"""What every compatibility loss is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.models.heads import Margin


@dataclass(frozen=True)
class Anchor:
    """The frozen gallery space that a query network learns.

    Attributes:
        embeddings: float32 ``(N, D)``, unit rows: the gallery model's view of each training image.
        labels: int64 ``(N,)`` in ``0..K-1``, or -1 where a picture has none.
        classifier: float32 ``(K, D)``, unit rows: the gallery model's class weights, or the class
            means of its embeddings where it brought none.
        kind, scale, margin: of the gallery model's own angular-margin softmax.
        views: float ``(N, V, D)``, unit: the gallery model's view of ``V`` augmented views of each image, where
            these are what the query network is shown, in one array or several, one after the other; none where the
            target is that of the unchanged image.
    """

    embeddings: Tensor
    labels: Tensor
    classifier: Tensor
    kind: Margin
    scale: float
    margin: float
    views: tuple[np.ndarray, ...] = ()

    @property
    def n_views(self) -> int:
        """``V``, or 0."""
        return self.views[0].shape[1] if self.views else 0

    def look(self, indices: Tensor, view: int) -> tuple[Tensor, Tensor]:
        """Unit gallery embeddings, float32 ``(B, D)``, and labels ``(B,)`` of pictures ``indices`` in a view."""
        if not self.views:
            return self.embeddings[indices], self.labels[indices]
        seen, rows = np.empty((len(indices), self.views[0].shape[2]), np.float32), indices.numpy()
        ends = np.cumsum([len(part) for part in self.views])
        of = np.searchsorted(ends[:-1], rows, side="right")
        for n, (part, end) in enumerate(zip(self.views, ends, strict=True)):
            own = of == n
            seen[own] = part[rows[own] - (end - len(part)), view]
        return torch.from_numpy(seen), self.labels[indices]


@dataclass(frozen=True)
class Batch:
    """One batch: ``query`` ``(N, D)`` as the network gave it, ``gallery`` ``(N, D)`` unit, ``labels``.

    A label of -1 means that there is none: losses that need labels leave the item out.
    """

    query: Tensor
    gallery: Tensor
    labels: Tensor


class Loss(nn.Module):
    """A compatibility loss: made from an anchor, called with a batch, a scalar.

    ``needs`` names what it cannot do without, beyond the gallery embeddings: ``labels``; and ``frozen``, where it keeps
    something of the gallery space that would grow stale if that still moved.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, anchor: Anchor) -> None:
        super().__init__()

    def follow(self, classifier: Tensor, momentum: float) -> None:
        """Move towards the gallery's ``classifier`` ``(K, D)``, which learns too; most losses keep none of it."""


def labelled(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """``query``, ``gallery`` and ``labels`` of the items that have one."""
    known = batch.labels >= 0
    return batch.query[known], batch.gallery[known], batch.labels[known]
