"""Similarities of queries and gallery items, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Protocol

import numpy as np
import torch

from cmpnas.errors import DataError

_ROWS_AT_ONCE = 65_536  # of embeddings, when they are looked through once
_ZERO = 1e-30  # a shorter vector has no direction in float32
#: The similarity of an item that an index did not find.
NOT_FOUND = float(np.finfo(np.float32).min)


class Similarity(Protocol):
    """``shape`` is (queries, gallery items)."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def block(self, queries: np.ndarray, first: int, last: int) -> np.ndarray:
        """Similarities of some queries to gallery items ``first`` up to ``last``: a new float ``(B, G)``.

        The same block asked for twice is the same to the last bit.
        """
        ...


class Cosine:
    """Cosines of embeddings, which may be memory maps: only blocks of them are ever copied.

    Raises:
        DataError: not two matrices of one width, or a row is not finite or all zero.
    """

    def __init__(self, query: np.ndarray, gallery: np.ndarray) -> None:
        self._query, self._gallery = (
            as_matrix(side, f"{name} embeddings") for side, name in ((query, "query"), (gallery, "gallery"))
        )
        must_share_space(self._query, self._gallery)
        self._query_scale, self._gallery_scale = _scales(self._query, "query"), _scales(self._gallery, "gallery")
        self._kept: dict[tuple[int, int], torch.Tensor] = {}

    def of(self, query: np.ndarray) -> Cosine:
        """Cosines of other queries to the same gallery, which is neither checked nor normalised again.

        Raises:
            DataError: as for a new one.
        """
        other = copy(self)
        other._query = as_matrix(query, "query embeddings")
        must_share_space(other._query, self._gallery)
        other._query_scale = _scales(other._query, "query")
        return other

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._query), len(self._gallery)

    def block(self, queries: np.ndarray, first: int, last: int) -> np.ndarray:
        unit = torch.from_numpy(_unit(self._query[queries], self._query_scale[queries]))
        return (unit @ self._part(first, last).T).numpy()

    def _part(self, first: int, last: int) -> torch.Tensor:
        """The last part is kept: a gallery that fits one block is normalised once."""
        if (first, last) not in self._kept:
            self._kept.clear()  # not two at once
            part = _unit(self._gallery[first:last], self._gallery_scale[first:last])
            self._kept[first, last] = torch.from_numpy(part)
        return self._kept[first, last]


class Given:
    """A table of scores ``(Q, N)``, larger is more similar; any real type, compared as float64, or as float32 where
    that is exact.

    Raises:
        DataError: not a non-empty matrix of finite numbers.
    """

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = as_matrix(scores, "scores")

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._scores), self._scores.shape[1]

    def block(self, queries: np.ndarray, first: int, last: int) -> np.ndarray:
        part = self._scores[queries, first:last]
        exact = part.dtype == np.float32 or part.dtype.itemsize < 4  # in 24 bits
        part = np.array(part, np.float32 if exact else np.float64)
        if not np.isfinite(part).all():
            row = queries[int(np.flatnonzero(~np.isfinite(part).all(1))[0])]
            raise DataError(f"scores hold NaN or infinity, first for query {row}; compute them again.")
        return part


class Retrieved:
    """What an index finds, asked for some queries at a time.

    Items not found are less similar than all that are, and equal among themselves.

    Args:
        search: from numbers of queries, int64 ``(B,)``, to similarities and gallery rows ``(B, k)``; row -1 is no item.
        shape: queries and gallery items.
    """

    def __init__(self, search: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], shape: tuple[int, int]) -> None:
        self._search, self._shape = search, shape
        self._asked: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self._shape

    def block(self, queries: np.ndarray, first: int, last: int) -> np.ndarray:
        if self._asked is None or not np.array_equal(self._asked, queries):  # parts of a gallery come one by one
            self._asked, self._found = queries.copy(), self._search(queries)
        similarity, rows = self._found
        part = np.full((len(queries), last - first), NOT_FOUND, np.float32)
        row, column = np.nonzero((rows >= first) & (rows < last))
        part[row, rows[row, column] - first] = similarity[row, column]
        return part


class Without:
    """Similarities to a gallery of which an index holds all but some rows; those are as not found."""

    def __init__(self, similarity: Similarity, rows: np.ndarray) -> None:
        self._similarity, self._rows = similarity, rows

    @property
    def shape(self) -> tuple[int, int]:
        return self._similarity.shape

    def block(self, queries: np.ndarray, first: int, last: int) -> np.ndarray:
        part = self._similarity.block(queries, first, last)
        part[:, self._rows[(self._rows >= first) & (self._rows < last)] - first] = NOT_FOUND
        return part


def unit_rows(embeddings: np.ndarray, name: str) -> np.ndarray:
    """Rows scaled to unit length: float32, contiguous, a copy.

    Raises:
        DataError: not a non-empty matrix, or a row is not finite or all zero.
    """
    matrix = as_matrix(embeddings, f"{name} embeddings")
    return _unit(matrix, _scales(matrix, name))


def must_share_space(query: np.ndarray, gallery: np.ndarray) -> None:
    """Raise a `DataError` where two matrices of embeddings differ in width."""
    if query.shape[1] != gallery.shape[1]:
        raise DataError(
            f"query embeddings have {query.shape[1]} dimensions, gallery embeddings {gallery.shape[1]}; "
            "a pair must share one space."
        )


def as_matrix(values: np.ndarray, what: str) -> np.ndarray:
    """``values`` as a non-empty matrix of real numbers; arrays and memory maps as they are, others converted.

    Raises:
        DataError: that is not what they are.
    """
    try:
        matrix = values if isinstance(values, np.ndarray) else np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise DataError(f"{what} cannot be read as an array ({str(fault).splitlines()[0]}).") from None
    if matrix.dtype.kind not in "iubf":
        raise DataError(f"{what} are {matrix.dtype}, not numbers.")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"{what} of shape {matrix.shape} are not a matrix with at least one row and column.")
    return matrix


def _unit(rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows, np.float32) * scales[:, None]


def _scales(embeddings: np.ndarray, name: str) -> np.ndarray:
    """One over the length of each row: float32 ``(N,)``."""
    scales = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        with np.errstate(over="ignore"):  # beyond float32 is infinity, and named below
            part = np.asarray(embeddings[start : start + _ROWS_AT_ONCE], np.float32)
        lengths = np.sqrt(np.einsum("nd,nd->n", part, part, dtype=np.float64))
        if not np.isfinite(lengths).all():
            row = start + int(np.flatnonzero(~np.isfinite(lengths))[0])
            raise DataError(f"{name} embeddings hold NaN or infinity, first in row {row}; embed again.")
        if (lengths < _ZERO).any():
            row = start + int(np.flatnonzero(lengths < _ZERO)[0])
            raise DataError(f"{name} embeddings hold a zero vector, first in row {row}; embed again.")
        scales[start : start + len(part)] = 1 / lengths
    return scales
