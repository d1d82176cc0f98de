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


@dataclass(frozen=True)
class Metric:
    """A name, its definition as a formula, and the function of ranks that computes it."""

    name: str
    definition: str
    score: Score


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
        last = np.take_along_axis(ranks, relevant[:, None] - 1, 1)
        reach = np.minimum(last, k)
        return (ranks <= reach).sum(1) / reach[:, 0]

    return score


def _ndcg(k: int) -> Score:
    def score(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
        gained = np.where(ranks <= k, 1 / np.log2(ranks.astype(np.float64) + 1), 0).sum(1)
        ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
        return gained / ideal[np.minimum(relevant, k) - 1]

    return score


_FIXED = {
    "map_full": ("(1/R) sum of j / r_j over all relevant, the whole gallery ranked", _map_full),
    "map@r": ("(1/R) sum of j / r_j over relevant with r_j <= R", lambda ranks, n: _precisions(ranks, n) / n),
    "r_precision": ("c_R / R", lambda ranks, n: (ranks <= n[:, None]).sum(1) / n),
    "map_oxford": (
        "(1/R) sum of ((j-1)/(r_j-1) + j/r_j) / 2 over all relevant, the first 1 where r_j = 1",
        _map_oxford,
    ),
}
_AT_K: dict[str, tuple[str, Callable[[int], Score]]] = {
    "hit@k": ("1 if c_k >= 1, else 0", lambda k: lambda ranks, n: (ranks[:, 0] <= k).astype(np.float64)),
    "recall@k": ("c_k / R", lambda k: lambda ranks, n: _found(ranks, k) / n),
    "precision@k": ("c_k / k", lambda k: lambda ranks, n: _found(ranks, k) / k),
    "mrr@k": ("1 / r_1, 0 where r_1 > k", lambda k: lambda ranks, n: np.where(ranks[:, 0] <= k, 1 / ranks[:, 0], 0)),
    "ndcg@k": ("sum of 1 / log2(r_j + 1) over r_j <= k, over the best that min(k, R) items can have", _ndcg),
    "map@k/R": ("(1/R) sum of j / r_j over r_j <= k", lambda k: lambda ranks, n: _precisions(ranks, k) / n),
    "map@k/min": (
        "(1/min(k, R)) sum of j / r_j over r_j <= k",
        lambda k: lambda ranks, n: _precisions(ranks, k) / np.minimum(k, n),
    ),
    "map@k/found": (
        "(1/c_k) sum of j / r_j over r_j <= k, 0 where c_k = 0: what is missed costs nothing",
        lambda k: lambda ranks, n: _precisions(ranks, k) / np.maximum(1, _found(ranks, k)),
    ),
    "mp@k_oxford": ("c_m / m with m = min(r_R, k)", _mp_oxford),
}
#: What `cmpnas ls metrics` prints.
DEFINITIONS = {name: definition for name, (definition, _) in (_FIXED | _AT_K).items()}  # type: ignore[operator]


def get_metric(name: str) -> Metric:
    """The metric called ``name``, for example ``hit@10``, ``map@r`` or ``map@100/min``.

    Raises:
        CmpnasError: there is no such metric.
    """
    if name in _FIXED:
        return Metric(name, *_FIXED[name])
    pattern = re.sub(r"@[1-9]\d*", "@k", name, count=1)
    if pattern not in _AT_K or pattern == name:
        raise CmpnasError(unknown("metric", name, DEFINITIONS, "k is a whole number, as in hit@10."))
    definition, of_k = _AT_K[pattern]
    k = int(re.findall(r"@(\d+)", name)[0])
    return Metric(name, definition, of_k(k))
