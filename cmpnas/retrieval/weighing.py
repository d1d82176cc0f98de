"""How much a first stage's score is worth beside the second's: read off answered queries, not guessed."""

from __future__ import annotations

import numpy as np

_ITERATIONS, _RIDGE = 50, 1e-4
_LEAST = 1e-3  # of the fine score, in spreads, where it says nothing


def learned_weight(coarse: np.ndarray, fine: np.ndarray, right: np.ndarray) -> float:
    """The ``weight`` of ``fine + weight * coarse`` under which right candidates are likeliest, at least 0.

    A conditional logit (McFadden, 1974): of a query's candidates each is the right one with a chance of
    ``softmax(a fine + b coarse)``; the weight is ``b / a``. A concave problem of two numbers, solved by Newton's
    method. Queries without a right candidate, or without a wrong one, say nothing; without any other the weight is 0.

    Args:
        coarse, fine: scores of candidates, ``(Q, K)`` each.
        right: bool ``(Q, K)``.
    """
    says = right.any(1) & ~right.all(1)
    if not says.any():
        return 0.0
    scores = np.stack([fine[says], coarse[says]], -1).astype(np.float64)
    spreads = scores.std((0, 1)) + 1e-12
    a, b = _logit(scores / spreads, right[says] / right[says].sum(1, keepdims=True))
    if b <= 0:
        return 0.0
    return float((b / spreads[1]) / (max(a, _LEAST * b) / spreads[0]))


def _logit(scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The most likely weights ``(F,)`` of scores ``(Q, K, F)``; what queries choose is ``wanted``, ``(Q, K)``."""
    scores = scores - np.einsum("qk,qkf->qf", wanted, scores)[:, None]  # what is chosen scores 0 by any weights

    def worth(weights: np.ndarray) -> tuple[float, np.ndarray]:
        tables = scores @ weights
        top = tables.max(1, keepdims=True)
        chances = np.exp(tables - top)
        totals = chances.sum(1, keepdims=True)
        return float(-(top + np.log(totals)).mean() - _RIDGE * weights @ weights / 2), chances / totals

    weights = np.zeros(scores.shape[-1])
    value, chances = worth(weights)
    for _ in range(_ITERATIONS):
        means = np.einsum("qk,qkf->qf", chances, scores)
        slope = -means.mean(0) - _RIDGE * weights
        curvature = np.einsum("qk,qkf,qkg->fg", chances, scores, scores, optimize=True) - means.T @ means
        step = np.linalg.solve(curvature / len(scores) + _RIDGE * np.eye(len(weights)), slope)
        while True:  # of a concave function, half of a step gains sooner or later
            after, of = worth(weights + step)
            if after >= value or np.abs(step).max() < 1e-9:
                break
            step = step / 2
        weights, gained, value, chances = weights + step, after - value, after, of
        if gained < 1e-10:
            break
    return weights
