"""A light model proposes, a heavy one has the last word: retrieve by an index, then re-rank a few (CrispSearch, MMT).

The same class serves texts that ask for pictures and pictures that ask for pictures: what a query is, only the two
stages know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

import numpy as np

from cmpnas.errors import CmpnasError, unknown
from cmpnas.retrieval.similarity import NOT_FOUND

_CELLS = 2**22  # of tables of scores at once: 32 MiB of places
Q = TypeVar("Q", contravariant=True)
#: The final score of a candidate: ``fine + weight * coarse``; or the mean of both ranks, whose ties the fine one breaks
#: (Geigle et al., "Retrieve Fast, Rerank Smart").
Mix = Literal["weighted", "ranks"]


class Coarse(Protocol[Q]):
    """A first stage, such as a `GalleryIndex` of vectors."""

    def search(self, query: Q, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and rows of the ``k`` nearest, best first: ``(Q, k)`` each; row -1 is nobody."""
        ...


@dataclass(frozen=True)
class Encoded(Generic[Q]):
    """A first stage for what has to be encoded first: an encoder to vectors ``(Q, D)``, and an index of vectors."""

    encode: Callable[[Q], np.ndarray]
    index: Coarse[np.ndarray]

    def search(self, query: Q, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Encode and search."""
        return self.index.search(self.encode(query), k)


#: A second stage: queries and rows of candidates, int64 ``(Q, K)``, to scores ``(Q, K)``.
Fine = Callable[[Any, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Found:
    """What was found for each query, best first.

    Attributes:
        rows: int64 ``(Q, k)`` of the gallery; -1 is nobody, after all others.
        scores: float ``(Q, k)``, comparable within a query alone.
    """

    rows: np.ndarray
    scores: np.ndarray


class Cascade(Generic[Q]):
    """Candidates by ``coarse``, their order by ``fine``.

    Args:
        k: how many candidates are looked at again.
        mix: how the two scores make one.
        weight: of the coarse score in a ``weighted`` mix, from 0, the fine score alone; `Odds.learned` finds it.

    Raises:
        CmpnasError: ``k`` is below 1, or there is no such mix or weight.
    """

    def __init__(self, coarse: Coarse[Q], fine: Fine, k: int, mix: Mix = "weighted", weight: float = 0.0) -> None:
        check_mix(mix, weight)
        if k < 1:
            raise CmpnasError(f"a cascade of {k} candidates finds nothing; k is at least 1.")
        self.coarse, self.fine, self.k, self.mix, self.weight = coarse, fine, k, mix, weight

    def search(self, query: Q) -> Found:
        """The ``k`` candidates of each query in their final order."""
        similarity, rows = self.coarse.search(query, self.k)
        there = rows >= 0
        scores = np.where(there, self.fine(query, np.where(there, rows, 0)), -np.inf)
        final = np.where(there, mixed(similarity, scores, self.mix, self.weight), NOT_FOUND)
        order = np.argsort(-final, axis=1, kind="stable")
        return Found(np.take_along_axis(rows, order, 1), np.take_along_axis(final, order, 1))


def check_mix(mix: str, weight: float) -> None:
    """Raise a `CmpnasError` for a mix or a weight that does not exist."""
    if mix not in get_args(Mix):
        raise CmpnasError(unknown("mix", mix, get_args(Mix)))
    if not 0 <= weight < np.inf:
        raise CmpnasError(f"the coarse score cannot weigh {weight:g}; give a number from 0, the fine score alone.")


def mixed(coarse: np.ndarray, fine: np.ndarray, mix: Mix = "weighted", weight: float = 0.0) -> np.ndarray:
    """One score of two, higher is better: float ``(Q, K)``, rows of candidates whose coarse scores fall."""
    if mix == "weighted":
        return fine + weight * coarse if weight else fine
    order = np.argsort(-fine, axis=1, kind="stable")
    places = np.empty(fine.shape)
    np.put_along_axis(places, order, np.arange(fine.shape[1], dtype=float)[None], 1)
    # Mean ranks are halves apart.
    return -(places + np.arange(fine.shape[1])) / 2 - places / (4 * fine.shape[1])


def candidates(coarse: np.ndarray, k: int, *tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """The ``k`` best columns of each row of ``coarse``, best first: int64 ``(Q, k)``; and each table's values there.

    Args:
        coarse, tables: ``(Q, N)`` each.
    """
    k = min(k, coarse.shape[1])
    rows = np.empty((len(coarse), k), np.int64)
    for some in some_rows(coarse):
        near = np.argpartition(-coarse[some], k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(coarse[some], near, 1), axis=1, kind="stable")
        rows[some] = np.take_along_axis(near, order, 1)
    return rows, *(np.take_along_axis(table, rows, 1) for table in tables)


def cascade_table(
    coarse: np.ndarray, fine: np.ndarray, k: int, mix: Mix = "weighted", weight: float = 0.0
) -> np.ndarray:
    """What a cascade of ``k`` candidates makes of two whole tables of scores ``(Q, N)``: scores of the same shape.

    Candidates come first, by their mixed scores; the others follow by their coarse ones. Equal scores stay equal.
    """
    final = np.empty(coarse.shape, np.float32)
    for some in some_rows(coarse):
        order = np.argsort(-coarse[some], axis=1, kind="stable")
        scores = np.take_along_axis(coarse[some], order, 1)
        judged = mixed(scores[:, :k], np.take_along_axis(fine[some], order[:, :k], 1), mix, weight)
        again = np.argsort(-judged, axis=1, kind="stable")
        order[:, :k] = np.take_along_axis(order[:, :k], again, 1)
        judged = np.take_along_axis(judged, again, 1)
        lower = np.ones(order.shape, bool)  # than the one before it
        lower[:, 1:k] = judged[:, 1:] < judged[:, :-1]
        lower[:, k + 1 :] = scores[:, k + 1 :] < scores[:, k:-1]
        np.put_along_axis(final[some], order, -lower.cumsum(1, dtype=np.float32), 1)
    return final


def some_rows(table: np.ndarray) -> Iterator[slice]:
    """The rows of a table of scores, as many at a time as sorting them has room for."""
    at_once = max(1, _CELLS // table.shape[1])
    return (slice(first, first + at_once) for first in range(0, len(table), at_once))
