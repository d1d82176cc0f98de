"""Retrieval metrics with named definitions, as functions of the ranks of the relevant items.

Let a query have ``R`` relevant gallery items, at 1-based ranks ``r_1 < ... < r_R``. Every metric here
is a function of these ranks alone, so a whole gallery never needs to be kept as a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cmpnas.errors import CmpnasError, unknown


@dataclass(frozen=True)
class Metric:
    """A named definition; ``score`` maps ranks ``(Q, W)`` and counts ``(Q,)`` to ``(Q,)`` values.

    Ranks are ascending per query and padded with a large number where a query has fewer.
    """

    name: str
    definition: str
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _found_before(ranks: np.ndarray) -> np.ndarray:
    return np.arange(1, ranks.shape[1] + 1, dtype=np.float64)[None]


def _hit(k: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda ranks, relevant: (ranks[:, 0] <= k).astype(np.float64)


def _map_full(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    real = _found_before(ranks) <= relevant[:, None]
    return np.where(real, _found_before(ranks) / ranks, 0).sum(1) / relevant


def _map_r(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    counted = ranks <= relevant[:, None]
    return np.where(counted, _found_before(ranks) / ranks, 0).sum(1) / relevant


def _r_precision(ranks: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    return (ranks <= relevant[:, None]).sum(1) / relevant


_FIXED = {
    "map_full": Metric("map_full", "(1/R) sum over all relevant of (j / r_j), the whole gallery ranked", _map_full),
    "map@r": Metric("map@r", "(1/R) sum over relevant with r_j <= R of (j / r_j)", _map_r),
    "r_precision": Metric("r_precision", "share of the first R that is relevant", _r_precision),
}
#: What `cmpnas ls metrics` prints.
DEFINITIONS = {"hit@k": "1 if any relevant item has rank <= k, else 0"} | {
    name: metric.definition for name, metric in _FIXED.items()
}


def get_metric(name: str) -> Metric:
    """The metric called ``name``, for example ``hit@10`` or ``map@r``.

    Raises:
        CmpnasError: there is no such metric.
    """
    if match := re.fullmatch(r"hit@([1-9]\d*)", name):
        return Metric(name, DEFINITIONS["hit@k"], _hit(int(match[1])))
    if name not in _FIXED:
        raise CmpnasError(unknown("metric", name, DEFINITIONS, "k is a whole number, as in hit@10."))
    return _FIXED[name]
