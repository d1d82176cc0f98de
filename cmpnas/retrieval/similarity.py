"""Similarities of queries and gallery items, a block at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from cmpnas.errors import DataError

_ROWS_AT_ONCE = 65_536  # of embeddings, when they are looked through once
_ZERO = 1e-30  # a shorter vector has no direction in float32


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
        self._query, self._query_scale = query, _scales(query, "query")
        self._gallery, self._gallery_scale = gallery, _scales(gallery, "gallery")
        if np.shape(query)[1] != np.shape(gallery)[1]:
            raise DataError(
                f"query embeddings have {np.shape(query)[1]} dimensions, gallery embeddings {np.shape(gallery)[1]}; "
                "a pair must share one space."
            )
        self._kept: tuple[int, int, torch.Tensor] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._query), len(self._gallery)

    def block(self, queries: np.ndarray, first: int, last: int) -> np.ndarray:
        unit = torch.from_numpy(_unit(self._query[queries], self._query_scale[queries]))
        return (unit @ self._part(first, last).T).numpy()

    def _part(self, first: int, last: int) -> torch.Tensor:
        """The last part is kept: a gallery that fits one block is normalised once."""
        if self._kept is None or self._kept[:2] != (first, last):
            part = _unit(self._gallery[first:last], self._gallery_scale[first:last])
            self._kept = first, last, torch.from_numpy(part)
        return self._kept[2]


class Given:
    """A table of scores ``(Q, N)``, larger is more similar; any real type, compared exactly.

    Raises:
        DataError: not a non-empty matrix of finite numbers.
    """

    def __init__(self, scores: np.ndarray) -> None:
        _must_be_matrix(scores, "scores")
        self._scores = scores

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
    """What an index found: similarities and rows ``(Q, k)`` of a gallery of ``n`` items; row -1 is no item.

    Items not found are less similar than all that were, and equal among themselves.
    """

    def __init__(self, similarity: np.ndarray, rows: np.ndarray, n: int) -> None:
        self._similarity, self._rows, self._n = similarity, rows, n

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._rows), self._n

    def block(self, queries: np.ndarray, first: int, last: int) -> np.ndarray:
        rows, similarity = self._rows[queries], self._similarity[queries]
        part = np.full((len(queries), last - first), np.finfo(np.float32).min, np.float32)
        row, column = np.nonzero((rows >= first) & (rows < last))
        part[row, rows[row, column] - first] = similarity[row, column]
        return part


def unit_rows(embeddings: np.ndarray, name: str) -> np.ndarray:
    """Rows scaled to unit length: float32, contiguous, a copy.

    Raises:
        DataError: not a non-empty matrix, or a row is not finite or all zero.
    """
    return _unit(np.asarray(embeddings), _scales(embeddings, name))


def _unit(rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows, np.float32) * scales[:, None]


def _scales(embeddings: np.ndarray, name: str) -> np.ndarray:
    """One over the length of each row: float32 ``(N,)``."""
    _must_be_matrix(embeddings, f"{name} embeddings")
    scales = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
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


def _must_be_matrix(values: np.ndarray, what: str) -> None:
    dtype = getattr(values, "dtype", None) or np.asarray(values).dtype
    if dtype.kind not in "iubf":
        raise DataError(f"{what} are {dtype}, not numbers.")
    if np.ndim(values) != 2 or 0 in np.shape(values):
        raise DataError(f"{what} of shape {np.shape(values)} are not a matrix with at least one row and column.")
