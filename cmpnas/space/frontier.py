"""Which pairs of two resources can still be met: the part that no others beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Frontier:
    """For each node of an acyclic graph, the non-dominated costs of reaching its last node.

    Args:
        edges: for each node, targets (numbered higher) and what the edge takes of the first and the second resource.
    """

    def __init__(self, edges: Sequence[Sequence[tuple[int, int, int]]]) -> None:
        self._ends = [np.zeros((1, 2), np.int64)] * len(edges)
        known: dict[frozenset[tuple[int, int, int]], int] = {}  # nodes with equal futures share one table
        twin = list(range(len(edges)))
        for node in range(len(edges) - 2, -1, -1):
            steps = frozenset((twin[target], first, second) for target, first, second in edges[node])
            twin[node] = known.setdefault(steps, node)
            if twin[node] == node:
                ends = np.concatenate([self._ends[target] + (first, second) for target, first, second in steps])
                self._ends[node] = _undominated(ends)
            else:
                self._ends[node] = self._ends[twin[node]]

    def allows(self, node: int, first: int, second: int) -> bool:
        """Whether the last node can be reached from ``node`` within both limits."""
        ends = self._ends[node]
        place = int(np.searchsorted(ends[:, 0], first, side="right"))
        return place > 0 and int(ends[place - 1, 1]) <= second

    def allows_all(self, node: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """`allows` of many limits at once: bool ``(N,)``."""
        ends = self._ends[node]
        place = np.searchsorted(ends[:, 0], first, side="right")
        return (place > 0) & (ends[np.maximum(place - 1, 0), 1] <= second)

    def nearest(self, first: int, second: int) -> tuple[int, int]:
        """Of the costs from the first node, the one that exceeds the limits by the smallest factor."""
        over = self._ends[0] / (first, second)
        near = self._ends[0][over.max(1).argmin()]
        return int(near[0]), int(near[1])


def _undominated(ends: np.ndarray) -> np.ndarray:
    """The rows that no other beats in both resources, by rising first."""
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    lowest = np.minimum.accumulate(ends[:, 1])
    return ends[np.concatenate([[True], ends[1:, 1] < lowest[:-1]])]
