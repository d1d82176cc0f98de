"""Retrieval metrics with named definitions, as functions of the ranks of the relevant items.

Let a query have ``R`` relevant gallery items, at 1-based ranks ``r_1 < ... < r_R``, and let ``c_k`` be how
many of them rank k or better. Every metric here is a function of these ranks alone, so a whole gallery
never needs to be kept as a list. "mAP" alone names nothing: public evaluators use six of these for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cmpnas.errors import CmpnasError, unknown

#: Maps ranks ``(Q, W)``, ascending per query and padded with a large number, and counts ``R`` ``(Q,)`` to
#: values ``(Q,)``.
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


_LARGEST = 10**9  # k


@dataclass(frozen=True)
class Metric:
    """A name, its definition as a formula, and the function of ranks that computes it.

    ``depth`` is how many of the best relevant items it looks at, ``reach`` how many ranks; None for all. What lies
    beyond need not be known.
    """

    name: str
    definition: str
    score: Score
    depth: int | None
    reach: int | None


@dataclass(frozen=True)
class _Kind:
    """A metric, or a family of them for any k: ``of`` takes k (0 where there is none)."""

    definition: str
    of: Callable[[int], Score]
    depth: Callable[[int], int | None] = lambda k: k
    also: str = ""


def _numbers(ranks: np.ndarray) -> np.ndarray:
    """j of r_j."""
    return np.arange(1, ranks.shape[1] + 1, dtype=np.float64)[None]


def _found(ranks: np.ndarray, k: int) -> np.ndarray:
    """c_k."""
    return (ranks <= k).sum(1).astype(np.float64)


def _precisions(ranks: np.ndarray, last: np.ndarray | int) -> np.ndarray:
    """The sum of j / r_j over relevant items that rank ``last`` or better."""
    counted = ranks <= np.reshape(last, (-1, 1))
    return np.where(counted, _numbers(ranks) / ranks, 0).sum(1)


def _map_full(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    real = _numbers(ranks) <= relevant[:, None]
    return np.where(real, _numbers(ranks) / ranks, 0).sum(1) / relevant


def _map_oxford(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    j = _numbers(ranks)
    before = np.where(ranks > 1, (j - 1) / np.maximum(ranks - 1, 1), 1.0)
    return np.where(j <= relevant[:, None], (before + j / ranks) / 2, 0).sum(1) / relevant


def _mp_oxford(k: int) -> Score:
    def score(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
        width = ranks.shape[1]
        last = np.take_along_axis(ranks, np.minimum(relevant, width)[:, None] - 1, 1)
        reach = np.where(relevant[:, None] > width, k, np.minimum(last, k))  # more than k of them: r_R > k
        return (ranks <= reach).sum(1) / reach[:, 0]

    return score


def _ndcg(k: int) -> Score:
    def score(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
        gained = np.where(ranks <= k, 1 / np.log2(ranks.astype(np.float64) + 1), 0).sum(1)
        best = np.minimum(relevant, k)
        ideal = np.cumsum(1 / np.log2(np.arange(2, best.max() + 2)))
        return gained / ideal[best - 1]

    return score


def _first(k: int) -> int:
    return 1


def _all(k: int) -> None:
    return None


_KINDS = {
    "hit@k": _Kind(
        "1 if c_k >= 1, else 0",
        lambda k: lambda ranks, n: (ranks[:, 0] <= k).astype(np.float64),
        _first,
        "Recall@k in metric learning and image-text search, CMC@k, top-k accuracy",
    ),
    "recall@k": _Kind("c_k / R", lambda k: lambda ranks, n: _found(ranks, k) / n, also="recall in text search"),
    "precision@k": _Kind(
        "c_k / k", lambda k: lambda ranks, n: _found(ranks, k) / k, also="some divide by min(k, R): not this one"
    ),
    "r_precision": _Kind("c_R / R", lambda _: lambda ranks, n: (ranks <= n[:, None]).sum(1) / n, _all),
    "mrr@k": _Kind(
        "1 / r_1, 0 where r_1 > k",
        lambda k: lambda ranks, n: np.where(ranks[:, 0] <= k, 1 / ranks[:, 0], 0),
        _first,
        "mean reciprocal rank",
    ),
    "ndcg@k": _Kind("sum of 1 / log2(r_j + 1) over r_j <= k, over the best that min(k, R) items can have", _ndcg),
    "map_full": _Kind(
        "(1/R) sum of j / r_j over all relevant, the whole gallery ranked",
        lambda _: _map_full,
        _all,
        "average precision of scikit-learn, mean_average_precision of pytorch-metric-learning with k=None",
    ),
    "map@k/R": _Kind(
        "(1/R) sum of j / r_j over r_j <= k",
        lambda k: lambda ranks, n: _precisions(ranks, k) / n,
        also="mean_average_precision of pytorch-metric-learning with a whole k; below 1 where k < R",
    ),
    "map@k/min": _Kind(
        "(1/min(k, R)) sum of j / r_j over r_j <= k",
        lambda k: lambda ranks, n: _precisions(ranks, k) / np.minimum(k, n),
        also="mAP@100 of Google Landmarks v2, map of sentence-transformers",
    ),
    "map@k/found": _Kind(
        "(1/c_k) sum of j / r_j over r_j <= k, 0 where c_k = 0: what is missed costs nothing",
        lambda k: lambda ranks, n: _precisions(ranks, k) / np.maximum(1, _found(ranks, k)),
        also="map@k of open-metric-learning",
    ),
    "map@r": _Kind(
        "(1/R) sum of j / r_j over relevant with r_j <= R",
        lambda _: lambda ranks, n: _precisions(ranks, n) / n,
        _all,
        "MAP@R of 'A Metric Learning Reality Check'",
    ),
    "map_oxford": _Kind(
        "(1/R) sum of ((j-1)/(r_j-1) + j/r_j) / 2 over all relevant, the first 1 where r_j = 1",
        lambda _: _map_oxford,
        _all,
        "mAP of Oxford and Paris buildings, old and revisited, and of Market-1501",
    ),
    "mp@k_oxford": _Kind("c_m / m with m = min(r_R, k)", _mp_oxford, also="mP@k of revisited Oxford and Paris"),
}
#: Name to formula.
DEFINITIONS = {name: kind.definition for name, kind in _KINDS.items()}


def explain() -> dict[str, dict[str, str | float]]:
    """Every metric's formula, other names in the wild, and value on one example ranking.

    The example: of ten items in the order 1010010000 (1 is relevant) and a fourth relevant one far behind, so
    R = 4; with k = 10.
    """
    ranks, relevant = np.array([[1, 3, 6, 10**9]]), np.array([4])
    return {
        name: {"formula": kind.definition, "also": kind.also, "example": float(kind.of(10)(ranks, relevant)[0])}
        for name, kind in _KINDS.items()
    }


def get_metric(name: str) -> Metric:
    """The metric called ``name``, for example ``hit@10``, ``map@r`` or ``map@100/min``.

    Raises:
        CmpnasError: there is no such metric.
    """
    pattern = re.sub(r"@[1-9]\d*", "@k", name, count=1)
    if pattern not in _KINDS or "@k" in name:
        raise CmpnasError(unknown("metric", name, DEFINITIONS, "k is a whole number, as in hit@10."))
    kind = _KINDS[pattern]
    k = int(name.split("@")[1].split("/")[0].split("_")[0]) if pattern != name else 0
    if k > _LARGEST:
        raise CmpnasError(f"{name!r} looks at more ranks than a gallery can have; k is at most {_LARGEST:,}.")
    return Metric(name, kind.definition, kind.of(k), kind.depth(k), k or None)
