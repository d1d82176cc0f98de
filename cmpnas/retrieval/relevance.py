"""Who is relevant to whom, as lists: a matrix of queries by gallery items never exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cmpnas.errors import DataError

if TYPE_CHECKING:  # pictures and torch are not needed to count
    from cmpnas.data.items import Protocol

NOBODY = -1
_BLOCK = 2**20  # rows at once


@dataclass(frozen=True)
class Neighbours:
    """Gallery rows that belong to each query: ``members[starts[k]:starts[k + 1]]`` with ``k = group[q]``.

    Attributes:
        group: int64 ``(Q,)``; queries of one group share their rows.
        starts: int64 ``(K + 1,)``.
        members: int64 rows of the gallery.
        n_gallery: how many rows the gallery has.
    """

    group: np.ndarray
    starts: np.ndarray
    members: np.ndarray
    n_gallery: int

    @staticmethod
    def of_equal(query: np.ndarray, gallery: np.ndarray, n_query: int, n_gallery: int, what: str) -> Neighbours:
        """The gallery rows whose label (or source) is the query's own.

        Raises:
            DataError: lengths differ from the numbers of items, or values are neither integers nor text.
        """
        columns = [_column(query, n_query, "query", what), _column(gallery, n_gallery, "gallery", what)]
        if columns[0].dtype.kind != columns[1].dtype.kind:
            raise DataError(f"query {what} are {columns[0].dtype}, gallery {what} {columns[1].dtype}; give both alike.")
        order = np.argsort(columns[1], kind="stable")
        ordered = columns[1][order]
        first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        values = ordered[first]
        group = np.searchsorted(values, columns[0])
        known = group < len(values)
        known[known] = values[group[known]] == columns[0][known]
        starts = np.concatenate([first, [n_gallery, n_gallery]])  # the last group has nobody
        return Neighbours(np.where(known, group, len(values)), starts, order, n_gallery)

    @staticmethod
    def of_lists(lists: Sequence[Sequence[int] | np.ndarray], n_gallery: int) -> Neighbours:
        """Rows as a benchmark's ground truth lists them, one list a query.

        Raises:
            DataError: a row is not in the gallery.
        """
        rows = [np.unique(np.asarray(row, np.int64)) for row in lists]
        members = np.concatenate([np.empty(0, np.int64), *rows])
        if len(members) and not (members.min() >= 0 and members.max() < n_gallery):
            wrong = members.min() if members.min() < 0 else members.max()
            raise DataError(f"the ground truth names gallery item {wrong}; there are {n_gallery}, counted from 0.")
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return Neighbours(np.arange(len(rows)), starts, members, n_gallery)

    @property
    def counts(self) -> np.ndarray:
        """Rows of each query: int64 ``(Q,)``."""
        return self.starts[self.group + 1] - self.starts[self.group]

    def padded(self, queries: np.ndarray) -> np.ndarray:
        """Rows of some queries: int64 ``(B, W)``, padded with `NOBODY`."""
        first = self.starts[self.group[queries]]
        counts = self.starts[self.group[queries] + 1] - first
        place = np.arange(max(1, int(counts.max(initial=0))))
        inside = place < counts[:, None]
        rows = np.full(inside.shape, NOBODY, np.int64)
        rows[inside] = self.members[(first[:, None] + place)[inside]]
        return rows


@dataclass(frozen=True)
class Relevance:
    """What a ranking is judged by.

    Attributes:
        relevant: what each query should find.
        removed: what is taken out of its ranking before ranks are read (junk, its own source), or None.
    """

    relevant: Neighbours
    removed: Neighbours | None = None

    @staticmethod
    def of_labels(
        query: np.ndarray,
        gallery: np.ndarray,
        sources: tuple[np.ndarray, np.ndarray] | None,
        n_query: int,
        n_gallery: int,
    ) -> Relevance:
        """Equal labels are relevant; gallery items of a query's own source are removed.

        Raises:
            DataError: see `Neighbours.of_equal`.
        """
        relevant = Neighbours.of_equal(query, gallery, n_query, n_gallery, "labels")
        return Relevance(
            relevant, None if sources is None else Neighbours.of_equal(*sources, n_query, n_gallery, "sources")
        )

    @staticmethod
    def of_task(task: Protocol) -> Relevance:
        """`of_labels` of all queries and gallery items of ``task``."""
        return Relevance.of_labels(
            task.query.labels, task.gallery.labels, task.own_sources, len(task.query), len(task.gallery)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(queries, gallery items)."""
        return len(self.relevant.group), self.relevant.n_gallery

    @property
    def width(self) -> np.ndarray:
        """Of each query, the longer of its two lists: int64 ``(Q,)``."""
        counts = self.relevant.counts
        return counts if self.removed is None else np.maximum(counts, self.removed.counts)

    @property
    def chance(self) -> float:
        """Expected hit@1 of a ranking by chance, over the queries that have something to find."""
        found, gone = self._counts
        return float((found / (self.shape[1] - gone))[found > 0].mean())

    @property
    def hopeless(self) -> bool:
        """Whether no query has anything to find."""
        return not self._counts[0].any()

    @property
    def _counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each query, relevant rows that are not removed and removed ones: int64 ``(Q,)`` each."""
        n_query = self.shape[0]
        if self.removed is None:
            return self.relevant.counts, np.zeros(n_query, np.int64)
        block = max(1, _BLOCK // max(1, int(self.width.max(initial=0))))
        rows = (self.padded(np.arange(start, min(start + block, n_query))) for start in range(0, n_query, block))
        found, gone = zip(*(((side != NOBODY).sum(1) for side in both) for both in rows), strict=True)
        return np.concatenate(found), np.concatenate(gone)

    def padded(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Relevant rows without the removed ones, and the removed ones, of some queries: ``(B, W)`` each."""
        relevant = self.relevant.padded(queries)
        if self.removed is None:
            return relevant, np.full((len(queries), 1), NOBODY)
        removed = self.removed.padded(queries)
        base = np.arange(len(queries))[:, None] * (1 + max(relevant.max(), removed.max(), 0))
        gone = np.isin(base + relevant, (base + removed)[removed != NOBODY]) & (relevant != NOBODY)
        return np.where(gone, NOBODY, relevant), removed


def _column(values: np.ndarray, n: int, side: str, what: str) -> np.ndarray:
    column = np.asarray(values)
    if column.shape != (n,):
        raise DataError(f"{n} {side} items but {side} {what} of shape {column.shape}; give one each.")
    if column.dtype == object and all(isinstance(value, str) for value in column):
        column = column.astype(str)
    if column.dtype.kind in "iub":
        if column.dtype == np.uint64 and n and column.max() > np.iinfo(np.int64).max:
            raise DataError(f"{side} {what} go up to {column.max()}; numbers above 2^63 - 1 must be given as text.")
        return column.astype(np.int64, copy=False)
    if column.dtype.kind not in "US":
        raise DataError(f"{side} {what} are {column.dtype}; give integers or text.")
    return column
