"""The lattice as arrays, for work on many architectures at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from cmpnas.cost.budget import Resource
from cmpnas.space.lattice import Lattice, Path


class EdgeTable:
    """All edges in one numbering, those of node ``i`` from ``first[i]`` to ``first[i + 1]``.

    Attributes:
        first: int64 ``(nodes + 1,)``.
        target: int64 ``(edges + 1,)``, the node where each edge leads.
        macs, params, peak: int64 ``(edges + 1,)``.
        ns: the same, or None where there is no latency table.
        steps: edges of the longest path.
        idle: the number of one more edge, of no cost, that fills up shorter paths.
    """

    def __init__(self, lattice: Lattice) -> None:
        edges = [edge for leaving in lattice.edges for edge in leaving]
        self.first = np.cumsum([0, *map(len, lattice.edges)])
        self.idle = len(edges)
        self.target = np.array([*(edge.target for edge in edges), len(lattice.edges) - 1])
        self.macs = np.array([*(edge.cost.macs for edge in edges), 0])
        self.params = np.array([*(edge.cost.params for edge in edges), 0])
        self.peak = np.array([*(edge.cost.peak for edge in edges), 0])
        timed = all(edge.cost.ns is not None for edge in edges)
        self.ns = np.array([*(edge.cost.ns for edge in edges), 0]) if timed else None
        longest = [0] * len(lattice.edges)
        for node, leaving in lattice.backwards():
            longest[node] = 1 + max(longest[edge.target] for edge in leaving)
        self.steps = longest[0]
        self._edges = edges
        self._number = {id(edge): number for number, edge in enumerate(edges)}

    def encode(self, paths: Iterable[Path]) -> np.ndarray:
        """Paths of the same lattice as int32 ``(N, steps)``."""
        rows = [[self._number[id(edge)] for edge in path] for path in paths]
        encoded = np.full((len(rows), self.steps), self.idle, np.int32)
        for row, numbers in zip(encoded, rows, strict=True):
            row[: len(numbers)] = numbers
        return encoded

    def of(self, name: Resource) -> np.ndarray:
        """One resource of every edge; a budget that limits it has been found reachable, so it is known."""
        cost: np.ndarray = getattr(self, name)
        return cost

    def within(self, limits: Mapping[Resource, int], rows: np.ndarray) -> np.ndarray:
        """Which rows are within all ``limits``: bool ``(N,)``."""
        fits = np.ones(len(rows), bool)
        for name, limit in limits.items():
            fits &= self.total(self.of(name), rows) <= limit
        return fits

    def total(self, cost: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The sum of ``cost``, one of ours, over the edges of each row: int64 ``(N,)``."""
        total = cost[rows[:, 0]]
        for column in rows.T[1:]:
            total += cost[column]
        return total

    def decode(self, row: np.ndarray) -> Path:
        """One row of `encode` as a path."""
        return tuple(self._edges[number] for number in row if number != self.idle)
