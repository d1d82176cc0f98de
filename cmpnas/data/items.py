"""Items (pictures with labels) and the three splits that never mix."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cmpnas.data.images import ArrayImages, Images, to_float
from cmpnas.errors import DataError

UNLABELLED = -1


@dataclass(frozen=True)
class Items(Dataset[tuple[Tensor, Tensor]]):
    """Pictures with what is known of each.

    Attributes:
        images: ``N`` pictures.
        labels: int64 ``(N,)``; items of equal label are relevant to each other.
        sources: int64 ``(N,)`` or None; a gallery item of a query's own source is ignored.
        rows: int64 ``(N,)``, each item's row in the whole data set (for saved embeddings).
    """

    images: Images
    labels: np.ndarray
    sources: np.ndarray | None
    rows: np.ndarray

    def __post_init__(self) -> None:
        for name in ("labels", "sources", "rows"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.images):
                raise DataError(f"{len(self.images)} images but {len(column)} {name}; they must be as many.")

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """uint8 images ``(B, 3, S, S)`` and their int64 indices ``(B,)``: how a DataLoader asks."""
        return self.images.read(np.asarray(indices)), torch.as_tensor(indices)

    def float_batches(self, batch_size: int, rows: np.ndarray | None = None) -> Iterator[Tensor]:
        """All pictures in order, or some: float32 ``(B, 3, S, S)``."""
        order = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(order), batch_size):
            yield to_float(self.images.read(order[start : start + batch_size]))

    def sample(self, count: int) -> np.ndarray:
        """Rows of ``count`` pictures, or of all where there are fewer; the same ones every time, mixed: int64."""
        return np.random.default_rng(0).permutation(len(self))[:count]

    def sample_batches(self, batch_size: int, count: int) -> Iterator[Tensor]:
        """The pictures of `sample`: float32 ``(B, 3, S, S)``.

        Each batch is a fair sample of the whole, however the items are sorted; they are as even as can be, for
        statistics of a last one of few pictures, or of a single one, say little, or nothing.
        """
        order = self.sample(count)
        for part in np.array_split(order, -(-len(order) // batch_size)):
            yield to_float(self.images.read(part))


def blank(count: int) -> Items:
    """Stand-ins for ``count`` items where saved features of theirs are learned from, not their pictures."""
    nothing = ArrayImages(torch.zeros(count, 3, 1, 1, dtype=torch.uint8))
    return Items(nothing, np.full(count, UNLABELLED), None, np.arange(count))


def concatenate(parts: Sequence[Items]) -> Items:
    """All items of ``parts`` one after the other, without sources."""
    counts = [len(part) for part in parts]
    of, index = np.repeat(np.arange(len(parts)), counts), np.concatenate([np.arange(count) for count in counts])
    labels, rows = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "rows"))
    return Items(_Union([part.images for part in parts], of, index), labels, None, rows)


def union(parts: Sequence[Items]) -> Items:
    """All items of ``parts``, each once, in the order of their rows; without labels and sources."""
    rows = np.concatenate([part.rows for part in parts])
    rows, first = np.unique(rows, return_index=True)
    ends = np.cumsum([len(part) for part in parts])
    of = np.searchsorted(ends, first, side="right")
    images = _Union([part.images for part in parts], of, first - (ends - [len(part) for part in parts])[of])
    return Items(images, np.full(len(rows), UNLABELLED), None, rows)


@dataclass(frozen=True)
class _Union:
    """Picture ``i`` is number ``index[i]`` of ``parts[of[i]]``."""

    parts: Sequence[Images]
    of: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.of)

    def read(self, indices: np.ndarray) -> Tensor:
        of, index = self.of[indices], self.index[indices]
        order = np.argsort(of, kind="stable")
        found = [self.parts[part].read(index[order][of[order] == part]) for part in np.unique(of)]
        return torch.cat(found)[torch.from_numpy(np.argsort(order))]


@dataclass(frozen=True)
class Protocol:
    """One retrieval task: find, for each query, the gallery items of its label."""

    query: Items
    gallery: Items

    @property
    def own_sources(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Sources of queries and gallery items, where both have them: a query's own are no answer to it."""
        if self.query.sources is None or self.gallery.sources is None:
            return None
        return self.query.sources, self.gallery.sources


@dataclass(frozen=True)
class Beside:
    """What finished networks learn from beside the pool.

    Attributes:
        items: all `UNLABELLED`; their pictures are read when they are asked for.
        fingerprint: a short hash of them.
        parts: the parts of the splits (``search query``, ``test gallery``, ...) of which pictures are among them.
    """

    items: Items
    fingerprint: str
    parts: frozenset[str]


@dataclass
class Splits:
    """``train`` moves weights, ``search`` guides the controller, ``test`` is opened by `evaluate` only.

    ``pool`` is what query networks learn from; pictures outside ``train`` have the label `UNLABELLED`.
    ``beside`` is what finished ones learn from besides, if anything.
    ``total`` is the number of items of the whole data set, ``fingerprint`` a short hash of it.
    """

    train: Items
    pool: Items
    search: Protocol
    open_test: Callable[[], Protocol]
    beside: Beside | None
    total: int
    fingerprint: str

    @cached_property
    def test(self) -> Protocol:
        """The test split; nothing of it is read before it is asked for."""
        return self.open_test()

    @property
    def search_is_learned(self) -> bool:
        """Whether finished networks learn from queries of the search split, which then is no judge of them."""
        return self.beside is not None and "search query" in self.beside.parts

    def index_is_learned(self, split: str) -> bool:
        """Whether finished networks learn from pictures of the index that the queries of ``split`` are asked in."""
        return self.beside is not None and f"{split} gallery" in self.beside.parts


class Steps:
    """Batches of indices by step, a pure function of (seed, step): any step can be resumed at.

    Every epoch is a fresh permutation; the last incomplete batch of an epoch is left out. Of several processes
    number ``share[0]`` of ``share[1]`` takes its share of each batch, and that of each of its ``parts``, which are
    computed one after the other.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        share: tuple[int, int] = (0, 1),
        parts: int = 1,
    ) -> None:
        if n < batch_size:
            raise DataError(f"{n} training images are fewer than one batch of {batch_size}; lower the batch.")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.start, self.stop, self.share, self.parts = start, stop, share, parts

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = self.n // self.batch_size
        epoch, order = -1, np.empty(0, np.int64)
        number, processes = self.share
        for step in range(self.start, self.stop):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.default_rng([self.seed, epoch]).permutation(self.n)
            first = step % per_epoch * self.batch_size
            batch = order[first : first + self.batch_size].reshape(self.parts, processes, -1)
            yield batch[:, number].ravel().tolist()


def batches(items: Items, steps: Steps, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 images and indices for each of ``steps``, decoded by ``workers`` processes.

    Raises:
        DataError: a picture cannot be read.
    """
    try:
        yield from DataLoader(items, batch_sampler=steps, num_workers=workers, collate_fn=_as_read)
    except DataError as fault:  # a worker's holds the whole traceback
        raise DataError(str(fault).strip().splitlines()[-1].removeprefix("cmpnas.errors.DataError: ")) from None


def _as_read(batch: Any) -> Any:
    return batch


def fingerprint(
    seen: Sequence[Items], rows: Mapping[str, np.ndarray], labels: np.ndarray, sources: np.ndarray | None
) -> str:
    """Twelve hexadecimal digits of every split's rows, all labels and sources, and 64 pictures of each of ``seen``."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes())
    if sources is not None:
        digest.update(np.ascontiguousarray(sources).tobytes())
    for name in sorted(rows):
        digest.update(name.encode() + np.ascontiguousarray(rows[name]).tobytes())
    for items in seen:
        sample = np.linspace(0, len(items) - 1, min(64, len(items))).astype(np.int64)
        digest.update(items.images.read(sample).contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
