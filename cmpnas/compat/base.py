"""What every compatibility loss is given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

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
    """

    embeddings: Tensor
    labels: Tensor
    classifier: Tensor
    kind: Margin
    scale: float
    margin: float

    def batch(self, query: Tensor, indices: Tensor) -> Batch:
        """``query`` embeddings of the pictures ``indices``, with what this space says of them."""
        return Batch(query, self.embeddings[indices].to(query.device), self.labels[indices].to(query.device))


@dataclass(frozen=True)
class Batch:
    """One batch: ``query`` ``(N, D)`` as the network gave it, ``gallery`` ``(N, D)`` unit, ``labels``.

    A label of -1 means that there is none: losses that need labels leave the item out.
    """

    query: Tensor
    gallery: Tensor
    labels: Tensor
