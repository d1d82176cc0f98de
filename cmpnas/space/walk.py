"""Walks through a lattice under a budget, for many architectures at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cmpnas.cost.budget import Budget, amount
from cmpnas.space.genes import GeneTable
from cmpnas.space.lattice import Lattice
from cmpnas.space.table import EdgeTable

_FAR = np.iinfo(np.int32).max


class Walker:
    """Walks the paths of ``lattice`` within ``budget``, which must be reachable."""

    def __init__(self, lattice: Lattice, table: EdgeTable, genes: GeneTable, budget: Budget) -> None:
        self._lattice, self._table, self._genes, limits = lattice, table, genes, budget.limits
        self._limited, self._limits = tuple(limits), np.array([*limits.values()], np.int64)
        self._least = np.empty((len(limits), len(lattice.edges)), np.int64)
        self._cost = np.empty((len(limits), len(table.target)), np.int64)
        for row, name in enumerate(limits):
            self._least[row] = [amount(cost, name) for cost in lattice.least]
            self._cost[row] = table.of(name)

    def nearest(self, genes: np.ndarray) -> np.ndarray:
        """For each row of ``genes`` (-1 where nothing is wanted), what `Lattice.nearest` finds: paths as edges.

        Args:
            genes: int ``(N, decisions)``.

        Returns:
            int32 ``(N, steps)``; see `EdgeTable`.
        """
        wanted = np.pad(genes, ((0, 0), (0, 1)), constant_values=-1)
        paths, node, spent = self._start(len(genes))
        for step in range(self._table.steps):
            for at, mine in self._groups(node):
                first, last = self._table.first[at], self._table.first[at + 1]
                asked = wanted[mine][:, self._genes.decision[first:last]]
                departure = np.where(asked >= 0, np.abs(asked - self._genes.value[first:last]), 0).sum(2)
                departure[~self._can_finish(at, spent[:, mine])] = _FAR
                edge = first + departure.argmin(1)
                paths[mine, step] = edge
                spent[:, mine] += self._cost[:, edge]
                node[mine] = self._table.target[edge]
        return paths

    def everything(self, at_most: int) -> np.ndarray | None:
        """All paths as edges, int32 ``(N, steps)``; None if there are more than ``at_most``."""
        paths, node, spent = self._start(1)
        for step in range(self._table.steps):
            done = node == len(self._table.first) - 2
            grown = [(paths[done], node[done], spent[:, done])]
            for at, mine in self._groups(node):
                first = self._table.first[at]
                which, edge = np.nonzero(self._can_finish(at, spent[:, mine]))
                longer = paths[mine[which]]
                longer[:, step] = first + edge
                grown.append(
                    (longer, self._table.target[first + edge], spent[:, mine[which]] + self._cost[:, first + edge])
                )
            paths, node = (np.concatenate([part[i] for part in grown]) for i in (0, 1))
            spent = np.concatenate([part[2] for part in grown], axis=1)
            if len(paths) > at_most:  # each of them can be finished, in ways of its own
                return None
        return paths

    def _start(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges, node and cost so far of ``count`` paths that have not begun."""
        paths = np.full((count, self._table.steps), self._table.idle, np.int32)
        return paths, np.zeros(count, np.int64), np.zeros((len(self._limits), count), np.int64)

    def _groups(self, node: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Each node but the last one with the paths that stand there."""
        order = np.argsort(node, kind="stable")
        for mine in np.split(order, np.flatnonzero(np.diff(node[order])) + 1):
            if len(mine) and (at := int(node[mine[0]])) != len(self._table.first) - 2:
                yield at, mine

    def _can_finish(self, node: int, spent: np.ndarray) -> np.ndarray:
        """Whether each edge of ``node`` leaves each path a way to end within the budget: bool ``(N, edges)``."""
        first, last = self._table.first[node], self._table.first[node + 1]
        target = self._table.target[first:last]
        after = spent[:, :, None] + self._cost[:, None, first:last]
        left = self._limits[:, None, None] - after
        within: np.ndarray = np.logical_and.reduce(left >= self._least[:, None, target], axis=0)
        if len(left) == 2:
            frontier = self._lattice.frontier(*self._limited)
            for edge, end in enumerate(target):
                within[:, edge] &= frontier.allows_all(int(end), *left[:, :, edge])
        return within
