"""How good a set of architectures is as a front: the area below it."""

from __future__ import annotations

import numpy as np
import torch

from cmpnas.search.front import non_dominated


class Front:
    """The best score within each cost, over costs from ``span[0]`` to ``span[1]`` and above ``floor``.

    The hypervolume is the area below, with cost on a log scale as fronts are drawn, over the width of the span: how far
    the best score within a cost is above the floor, on average. Nothing that costs as much as ``span[1]`` counts.

    Args:
        scores, costs: float ``(N,)``, of what is evaluated; costs in any unit, that of the span.
    """

    def __init__(self, scores: np.ndarray, costs: np.ndarray, *, floor: float, span: tuple[float, float]) -> None:
        self._floor, (self._low, self._high) = floor, np.log(span)
        self._set(scores, np.clip(np.log(costs), self._low, self._high))

    def _set(self, scores: np.ndarray, costs: np.ndarray) -> None:
        stay = non_dominated(scores, costs)
        stay = stay[scores[stay] > self._floor]
        self._best = np.append(self._floor, scores[stay])
        self._costs = np.append(self._low, costs[stay])

    @property
    def hypervolume(self) -> float:
        widths = np.diff(np.append(self._costs, self._high))
        return float(widths @ (self._best - self._floor) / (self._high - self._low))

    def add(self, score: float, cost: float) -> None:
        """One more is evaluated."""
        at = np.clip(np.log(cost), self._low, self._high)
        self._set(np.append(self._best[1:], score), np.append(self._costs[1:], at))

    def expected_gain(self, mean: np.ndarray, deviation: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """By how much `hypervolume` is expected to rise with each of some architectures, evaluated alone.

        Scores are normally distributed and costs known. So the gain is the sum, over the steps of the front, of the
        width that the architecture is cheap enough for times the expected improvement on that step's score.

        Args:
            mean, deviation: float ``(N,)``, of scores.
            costs: float ``(N,)``.
        """
        ends = np.append(self._costs[1:], self._high)
        widths = np.clip(ends - np.maximum(self._costs, np.log(costs)[:, None]), 0, None)
        above = mean[:, None] - self._best
        ratio = torch.from_numpy(above / deviation[:, None])
        density = torch.exp(-(ratio**2) / 2).numpy() / np.sqrt(2 * np.pi)
        improvement = above * torch.special.ndtr(ratio).numpy() + deviation[:, None] * density
        return (widths * improvement).sum(1) / (self._high - self._low)


def growth(scores: np.ndarray, costs: np.ndarray, *, floor: float, span: tuple[float, float]) -> np.ndarray:
    """The hypervolume of the first 1, 2, ..., N: float64 ``(N,)``; see `Front`."""
    front = Front(scores[:0], costs[:0], floor=floor, span=span)
    areas = np.zeros(len(scores))
    for number, (score, cost) in enumerate(zip(scores, costs, strict=True)):
        front.add(score, cost)
        areas[number] = front.hypervolume
    return areas
