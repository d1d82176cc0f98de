"""From times of single operators to times of networks: the correction, and how far to believe it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from cmpnas.cost.latency import Correction
from cmpnas.search.rank import Estimate, kendall, resampled

_TERMS = ("network_ms", "alone", "operator_ms", "params_ms")
_FOLDS = 5


def operator_terms(alone: np.ndarray, params_m: np.ndarray) -> np.ndarray:
    """What each term of a `Correction` multiplies in what an operator adds to a network: float64 ``(operators, 4)``.

    Args:
        alone, params_m: ``(operators,)``; milliseconds, and million parameters.
    """
    works = alone > 0
    return np.stack([np.zeros(len(alone)), alone, works, params_m * works], 1)


def terms(counts: np.ndarray, of_operators: np.ndarray) -> np.ndarray:
    """What each term of a `Correction` multiplies in what a network takes: float64 ``(N, 4)``.

    Args:
        counts: ``(N, operators)``, how often each network has each operator.
        of_operators: `operator_terms`.
    """
    return counts @ of_operators + np.eye(len(_TERMS))[0]


def fit(of: np.ndarray, measured: np.ndarray, of_operators: np.ndarray) -> Correction:
    """The correction under which relative errors are least.

    Of all sets of terms whose least squares are a `Correction` and let every operator take something, the one that
    predicts best across folds of these networks, and of equals the smallest.

    Args:
        of: `terms` of the networks.
        measured: ``(N,)`` milliseconds, N at least `_FOLDS`.
        of_operators: `operator_terms`.
    """
    works = of_operators[of_operators[:, 1] > 0]

    def sound(solution: np.ndarray) -> bool:
        return bool((solution[[0, 1, 3]] >= 0).all() and (works @ solution > 0).all())

    design, fold = of / measured[:, None], np.arange(len(measured)) % _FOLDS
    candidates = []
    for size in range(1, len(_TERMS) + 1):
        for chosen in combinations(range(len(_TERMS)), size):
            if _TERMS.index("alone") in chosen and sound(_solve(design, chosen)):
                off = [
                    abs(design[fold == out] @ _solve(design[fold != out], chosen) - 1).mean() for out in range(_FOLDS)
                ]
                candidates.append((float(np.mean(off)), chosen))
    chosen = min(candidates, key=lambda found: found[0])[1]
    return Correction(**{name: float(value) for name, value in zip(_TERMS, _solve(design, chosen), strict=True)})


def _solve(design: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
    """Least squares of ones over the ``chosen`` columns; zero for the others."""
    solution = np.zeros(design.shape[1])
    scale = np.abs(design[:, chosen]).mean(0) + np.finfo(float).tiny
    solution[list(chosen)] = np.linalg.lstsq(design[:, chosen] / scale, np.ones(len(design)), rcond=None)[0] / scale
    return solution


def predict(of: np.ndarray, correction: Correction) -> np.ndarray:
    """Milliseconds of networks with these `terms`: float64 ``(N,)``."""
    return of @ np.array([getattr(correction, name) for name in _TERMS])


def quality(predicted: np.ndarray, measured: np.ndarray) -> dict[str, Any]:
    """How far predictions are off: float64 ``(N,)`` of milliseconds each.

    Returns:
        ``networks``, how many; ``mape``, mean absolute error relative to the measurement, and ``worst``, the largest;
        ``within_10pct``, the share closer than a tenth; ``kendall``, tau of the two orders with its interval.
    """
    off = np.abs(predicted / measured - 1)
    counts = resampled(len(measured))
    return {
        "networks": len(measured),
        "mape": float(off.mean()),
        "worst": float(off.max()),
        "within_10pct": float((off <= 0.1).mean()),
        "kendall": Estimate.of(kendall(predicted, measured, counts)).to_json(),
    }
