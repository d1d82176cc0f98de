"""What a gallery option is to the rest of the system: vectors, a classifier, a cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from cmpnas.compat.base import Anchor
from cmpnas.data.augment import Augment, augment, draws
from cmpnas.data.images import to_float
from cmpnas.data.items import UNLABELLED, Items, Splits
from cmpnas.errors import RecipeError, RunError
from cmpnas.files import read_npy, whole, write_npy
from cmpnas.gallery.settings import AnyGallery
from cmpnas.progress import track
from cmpnas.retrieval.index import GalleryIndex
from cmpnas.train.device import device

_BATCH = 128


class Option(Protocol):
    """A finished gallery option."""

    @property
    def mflops(self) -> float:
        """Million multiply-adds to embed one image."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Width ``D`` of the embeddings."""
        ...

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items``, float32 ``(N, D)``."""
        ...


class Gallery(Option, Protocol):
    """A finished gallery model in its own space, which may be the anchor."""

    @property
    def settings(self) -> AnyGallery: ...

    @property
    def classifier(self) -> np.ndarray | None:
        """float32 ``(K, D)``, or None where only embeddings are known."""
        ...

    @property
    def encoder(self) -> Callable[[Tensor], Tensor] | None:
        """Float images ``(B, 3, S, S)`` in [-1, 1] at the recipe's size to unit embeddings ``(B, D)``, without
        gradients; None where only embeddings are known."""
        ...


@dataclass(frozen=True)
class Indexed:
    """The search gallery as an option indexes it.

    Attributes:
        gallery: float32 ``(N, D)`` unit embeddings in the anchor's space.
        rejected: int64 rows of it that the index leaves out.
        distance: float32 ``(N,)``, how far the members of an ensemble are apart on each image.
    """

    gallery: np.ndarray
    rejected: np.ndarray | None = None
    distance: np.ndarray | None = None


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
            write_npy(folder / f"{name}.npy", getattr(self, name))
        GalleryIndex.build(self.gallery).save(folder / "index.faiss")

    @staticmethod
    def load(folder: Path) -> Embedded:
        """Read back what `save` wrote, as memory maps whose pages processes share until they write to them.

        Raises:
            RunError: a file is missing or damaged.
        """
        names, advice = ("pool", "query", "gallery"), f"delete {folder} and use --resume"
        return Embedded(*(read_npy(folder / f"{name}.npy", advice, mode="c") for name in names))


def anchor(option: Gallery, embedded: Embedded, pool: Items, train: Items) -> Anchor:
    """The space to learn: targets of ``option`` on ``pool``, the pictures to learn from, and its weights of the classes
    of ``train``, which need not all be in the pool.

    Without a classifier, class means of the pool's embeddings stand in for its weights (the pseudo
    classifier of openBCT).
    """
    classes, labels = coded(pool, pool if option.classifier is None else train)
    embeddings = torch.from_numpy(embedded.pool)
    if option.classifier is None:
        weights = torch.zeros(len(classes), embeddings.shape[1])
        weights.index_add_(0, labels[labels != UNLABELLED], embeddings[labels != UNLABELLED])
    else:
        weights = torch.from_numpy(classifier_of(option, classes))
    head = option.settings.head
    unit = torch.nn.functional.normalize(weights)
    return Anchor(embeddings, labels, unit, head.kind, head.scale, head.margin)


def classifier_of(option: Gallery, classes: np.ndarray) -> np.ndarray:
    """The weights of an option that has some, float32 ``(K, D)``.

    Raises:
        RunError: they are not of ``K`` classes and embeddings as wide as the option's.
    """
    weights, needed = cast(np.ndarray, option.classifier), (len(classes), option.embedding_dim)
    if weights.shape != needed:
        raise RunError(
            f"the classifier of gallery {option.settings.name!r} is {weights.shape}; the data need {needed}."
        )
    return weights


def coded(items: Items, of: Items) -> tuple[np.ndarray, Tensor]:
    """Distinct labels of ``of`` in order, and each item's number among them: int64 ``(N,)``, -1 where it has none."""
    classes = np.unique(of.labels[of.labels != UNLABELLED])
    codes = np.full(len(items), UNLABELLED)
    known = items.labels != UNLABELLED
    codes[known] = np.searchsorted(classes, items.labels[known])
    return classes, torch.from_numpy(codes.astype(np.int64))


def embed_views(option: Gallery, pool: Items, augmentation: Augment, views: int, path: Path, *, first: int = 0) -> None:
    """Save the embeddings of ``views`` augmented views of each picture: float16 ``(N, V, D)``.

    ``first`` is the number of the first picture among all that are learned from, by which views are drawn.

    A network that is shown a view and told what the gallery model sees in that very view learns from many times as
    many examples as there are pictures (consistent teaching, Beyer et al., CVPR 2022). Computed once, for the
    supernet and every network trained after it.

    Raises:
        RecipeError: there is no model to run.
    """
    encode = option.encoder
    if encode is None:
        raise RecipeError(f"gallery {option.settings.name!r} is embeddings without a model; use query.views: 0.")
    where, shape = device(), (len(pool), views, option.embedding_dim)
    chunks = np.array_split(np.arange(len(pool)), max(1, -(-len(pool) // _BATCH)))
    with whole(path) as partial:
        saved = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        for chunk in track(chunks, "embed views", total=len(chunks)):
            images = to_float(pool.images.read(chunk))
            for view in range(views):
                shown = augment(images, augmentation, draws(torch.from_numpy(first + chunk), view))
                saved[chunk[0] : chunk[-1] + 1, view] = encode(shown.to(where)).cpu().numpy()
        saved.flush()
