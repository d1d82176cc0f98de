"""What a gallery option is to the rest of the system: vectors, a classifier, a cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cmpnas.compat.base import Anchor
from cmpnas.data.items import UNLABELLED, Items, Splits
from cmpnas.errors import RunError
from cmpnas.gallery.settings import AnyGallery
from cmpnas.retrieval.index import GalleryIndex


class Gallery(Protocol):
    """A finished gallery option."""

    @property
    def settings(self) -> AnyGallery: ...

    @property
    def mflops(self) -> float:
        """Million multiply-adds to embed one image."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Width ``D`` of the embeddings."""
        ...

    @property
    def classifier(self) -> np.ndarray | None:
        """float32 ``(K, D)``, or None where only embeddings are known."""
        ...

    @property
    def encoder(self) -> Callable[[Tensor], Tensor] | None:
        """Float images ``(B, 3, S, S)`` in [-1, 1] at the recipe's size to unit embeddings ``(B, D)``, without
        gradients; None where only embeddings are known."""
        ...

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items``, float32 ``(N, D)``."""
        ...


@dataclass(frozen=True)
class Embedded:
    """Everything that search and training need of a gallery option, computed once.

    Attributes:
        pool: float32 ``(N, D)`` unit embeddings of the pictures that query networks learn from.
        query, gallery: the same for the search split; ``query`` gives the paragon.
    """

    pool: np.ndarray
    query: np.ndarray
    gallery: np.ndarray

    @staticmethod
    def compute(option: Gallery, splits: Splits) -> Embedded:
        """Embed what the search needs; the test split stays shut."""
        name = option.settings.name
        return Embedded(
            option.embed(splits.pool, f"embed {name}"),
            option.embed(splits.search.query, f"embed {name}"),
            option.embed(splits.search.gallery, f"embed {name}"),
        )

    def save(self, folder: Path) -> None:
        """Write the arrays, and an index of the search gallery for other tools."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("pool", "query", "gallery"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        GalleryIndex.build(self.gallery).save(folder / "index.faiss")

    @staticmethod
    def load(folder: Path) -> Embedded:
        """Read back what `save` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        arrays = {}
        for name in ("pool", "query", "gallery"):
            path = folder / f"{name}.npy"
            try:
                arrays[name] = np.load(path, allow_pickle=False)
            except (OSError, EOFError, ValueError) as fault:
                raise RunError(f"{path} cannot be read ({fault}); delete {folder} and use --resume.") from None
        return Embedded(**arrays)


def anchor(option: Gallery, embedded: Embedded, pool: Items, *, views: bool = False) -> Anchor:
    """The space to learn: targets and class weights of ``option`` on the pictures to learn from.

    With ``views`` the targets are of each augmented view, which takes a model and not embeddings alone.

    Without a classifier, class means of the embeddings stand in for its weights (the pseudo
    classifier of openBCT).
    """
    known = pool.labels != UNLABELLED
    classes, codes = np.unique(pool.labels[known], return_inverse=True)
    labels = torch.full((len(pool),), UNLABELLED)
    labels[torch.from_numpy(known)] = torch.from_numpy(codes.astype(np.int64))
    embeddings = torch.from_numpy(embedded.pool)
    if option.classifier is None:
        weights = torch.zeros(len(classes), embeddings.shape[1])
        weights.index_add_(0, labels[labels != UNLABELLED], embeddings[labels != UNLABELLED])
    else:
        weights = torch.from_numpy(option.classifier)
        if weights.shape != (len(classes), embeddings.shape[1]):
            raise RunError(
                f"the classifier of gallery {option.settings.name!r} is {tuple(weights.shape)}; "
                f"the data need ({len(classes)}, {embeddings.shape[1]})."
            )
    head = option.settings.head
    unit = torch.nn.functional.normalize(weights)
    encoder = option.encoder if views else None
    return Anchor(embeddings, labels, unit, head.kind, head.scale, head.margin, encoder)
