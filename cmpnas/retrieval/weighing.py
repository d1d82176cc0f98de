"""How likely both scores of a cascade make a picture the right one: read off answered queries, not guessed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmpnas.retrieval.cascade import candidates, mixed, some_rows

_ITERATIONS, _HALVINGS, _RIDGE = 50, 40, 1e-4
_LEAST = 1e-3  # of the fine score, in spreads, where it says nothing
_CONSTANT = 1e-9  # a spread of so little of a score is rounding


@dataclass(frozen=True)
class Odds:
    """A picture is the one that is meant with a chance of ``softmax(scale * (fine + weight * coarse))``.

    Attributes:
        scale: of the final score, at least 0.
        weight: of the coarse score beside the fine one, at least 0.
    """

    scale: float
    weight: float

    @staticmethod
    def learned(coarse: np.ndarray, fine: np.ndarray, right: np.ndarray) -> Odds:
        """Those under which right candidates are likeliest: a conditional logit (McFadden, 1974).

        A concave problem of two numbers, solved by Newton's method. Queries without a right candidate, or without a
        wrong one, say nothing; without any other all candidates are equally likely.

        Args:
            coarse, fine: scores of candidates, ``(Q, K)`` each.
            right: bool ``(Q, K)``.
        """
        says = _says(right)
        if not says.any():
            return Odds(0.0, 0.0)
        scores = np.stack([fine[says], coarse[says]], -1).astype(np.float64)
        spreads = scores.std((0, 1))
        spreads = np.where(spreads > _CONSTANT * np.abs(scores).max((0, 1)), spreads, 1.0)
        scores, wanted = scores / spreads, right[says] / right[says].sum(1, keepdims=True)
        of_fine, of_coarse = _logit(scores, wanted)
        if of_coarse <= 0:
            return Odds(max(float(_logit(scores[..., :1], wanted)[0] / spreads[0]), 0.0), 0.0)
        scale = max(of_fine, _LEAST * of_coarse) / spreads[0]
        return Odds(float(scale), float(of_coarse / spreads[1] / scale))

    def final(self, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
        """Both scores as one, of any shape."""
        return mixed(coarse, fine, weight=self.weight)

    def forgone(self, final: np.ndarray, near: np.ndarray, right: np.ndarray) -> np.ndarray:
        """What cascades of 1 to K candidates are expected to forgo of each query's hit, ``(Q, K)``: of fewer no less.

        A cascade misses what the best picture of all is likelier to be right than the best candidate. Chances vary
        less than hits do: what answered queries say of two numbers tells more of a few hits than counting them.

        Args:
            final: of the whole gallery, ``(Q, N)``.
            near: the same of candidates, nearest first, ``(Q, K)``.
            right: how many pictures of the gallery are right, ``(Q,)``.
        """
        best = final.max(1, keepdims=True)
        totals = [np.exp(self.scale * (final[some] - best[some])).sum(1) for some in some_rows(final)]
        chances = (right / np.concatenate(totals))[:, None]
        of_cascades = chances * np.exp(self.scale * (np.maximum.accumulate(near, 1) - best))
        forgone: np.ndarray = np.minimum(chances, 1) - np.minimum(of_cascades, 1)
        return forgone


def weigh(
    coarse: np.ndarray, fine: np.ndarray, relevant: np.ndarray, deepest: int
) -> tuple[Odds, np.ndarray, np.ndarray]:
    """The odds of whole tables ``(Q, N)`` by their ``deepest`` best candidates, and what they make of the tables.

    A coarse score that puts no right picture among them is judged by all pictures, for some queries: it is no better.

    Returns:
        The odds; both scores as one, ``(Q, N)``; and what cascades are expected to forgo (`Odds.forgone`).
    """
    _, *near = candidates(coarse, deepest, coarse, fine, relevant)
    some = next(some_rows(coarse))
    odds = Odds.learned(*(near if _says(near[2]).any() else (coarse[some], fine[some], relevant[some])))
    final = odds.final(coarse, fine)
    return odds, final, odds.forgone(final, odds.final(*near[:2]), relevant.sum(1))


def _says(right: np.ndarray) -> np.ndarray:
    """Which queries have a right candidate and a wrong one: bool ``(Q,)`` of bool ``(Q, K)``."""
    return np.asarray(right.any(1) & ~right.all(1))


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
        for _ in range(_HALVINGS):  # of a concave function, half of a step gains sooner or later
            after, of = worth(weights + step)
            if after >= value:
                break
            step = step / 2
        else:
            break  # as near as numbers go, or none
        weights, gained, value, chances = weights + step, after - value, after, of
        if gained < 1e-10:
            break
    return weights
