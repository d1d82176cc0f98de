"""What every compatibility loss is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

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
        encoder: the gallery model itself, float ``(B, 3, S, S)`` to unit ``(B, D)``, where a query network shall follow
            it on every augmented view; None where what it says of the unchanged picture is the target.
    """

    embeddings: Tensor
    labels: Tensor
    classifier: Tensor
    kind: Margin
    scale: float
    margin: float
    encoder: Callable[[Tensor], Tensor] | None = None

    def look(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Unit gallery embeddings ``(B, D)`` and labels ``(B,)`` of pictures ``indices``, seen as ``images``."""
        gallery = self.embeddings[indices] if self.encoder is None else self.encoder(images)
        return gallery.to(images.device, non_blocking=True), self.labels[indices].to(images.device, non_blocking=True)


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

    ``needs`` names what it cannot do without, beyond the gallery embeddings: ``labels``.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, anchor: Anchor) -> None:
        super().__init__()


def labelled(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """``query``, ``gallery`` and ``labels`` of the items that have one."""
    known = batch.labels >= 0
    return batch.query[known], batch.gallery[known], batch.labels[known]
