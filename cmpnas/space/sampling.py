"""Drawing architectures by the thousand: uniformly within a budget, or evenly over cost.

The costs of finishing from each node are tabled in cells, as multiples of a small unit above the
cheapest way to finish. Rounding down makes the table a little too generous, never too strict: a
draw from it is uniform over a slightly larger set, and dropping what exceeds the true budget leaves
the true set, uniform. As the unit shrinks with the room that the budget leaves, little is dropped
even where one architecture in a billion fits.
"""

from __future__ import annotations

import numpy as np

from cmpnas.cost.budget import Budget, Resource, amount
from cmpnas.errors import BudgetError
from cmpnas.space.lattice import Lattice
from cmpnas.space.table import EdgeTable

_CELLS = 4096  # of one resource, when only one is limited
_CELLS_EACH = 160  # of either resource, when both are
_AT_ONCE = 1 << 15
_ROUNDS = 64  # in a row without a single draw within the budget


class Sampler:
    """Draws from the paths of ``lattice`` within ``budget``, which must be reachable.

    Args:
        even: draw the multiply-adds first, log-uniformly between the cheapest and the dearest path, and
            a path of about that cost then; else every path is equally likely. A table holds two resources: within
            limits on two others it is the latency that is drawn first.
    """

    def __init__(self, lattice: Lattice, table: EdgeTable, budget: Budget, *, even: bool = False) -> None:
        self._table, self._budget, self._even = table, budget, even
        self._limits = budget.limits
        first: Resource = "macs" if len(self._limits.keys() | {"macs"}) <= 2 else "ns"
        tabled = [first] if even else []
        tabled += [name for name in self._limits if name not in tabled]
        cells = [_CELLS_EACH if len(tabled) == 2 else _CELLS] * len(tabled) + [0, 0]
        tabled += [name for name in ("macs", "params") if name not in tabled]
        self._lowest = amount(lattice.least[0], tabled[0])
        scales = [
            _Scale(lattice, table, name, self._limits.get(name), cell)
            for name, cell in zip(tabled[:2], cells, strict=False)
        ]
        self._unit = scales[0].unit
        self._rise = np.stack([scale.rise for scale in scales])
        self._fill([scale.cells for scale in scales])

    def _fill(self, shape: list[int]) -> None:
        """``self._ways[self._row[node]]``: number of ways to finish in each cell, by cells of both resources."""
        first, target = self._table.first, self._table.target
        rows: list[np.ndarray] = [np.zeros(shape)]
        rows[0][0, 0] = 1.0
        self._row = np.zeros(len(first) - 1, np.int64)
        known: dict[bytes, int] = {}  # nodes with equal futures share one row
        for node in range(len(first) - 3, -1, -1):
            span = slice(first[node], first[node + 1])
            steps, counts = np.unique(
                np.stack([self._row[target[span]], *self._rise[:, span]], 1), axis=0, return_counts=True
            )
            key = steps.tobytes() + counts.tobytes()
            if key not in known:
                known[key] = len(rows)
                ways = np.zeros(shape)
                for (row, rise, lift), count in zip(steps, counts, strict=True):
                    if rise < shape[0] and lift < shape[1]:
                        ways[rise:, lift:] += count * rows[row][: shape[0] - rise, : shape[1] - lift]
                rows.append(ways)
            self._row[node] = known[key]
        self._ways = np.stack(rows)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """``count`` paths as edges, int32 ``(count, steps)``; see `EdgeTable`.

        Raises:
            BudgetError: hardly any path of the table is within the budget.
        """
        found = [np.zeros((0, self._table.steps), np.int32)]
        missing, fruitless = count, 0
        while missing > 0:
            paths = self._walk(min(_AT_ONCE, missing + missing // 4 + 8), rng)
            within = paths[self._table.within(self._limits, paths)][:missing]
            found.append(within)
            missing -= len(within)
            fruitless = 0 if len(within) else fruitless + 1
            if fruitless == _ROUNDS:
                raise BudgetError(f"hardly any architecture is near {self._budget} and within it; raise a limit.")
        return np.concatenate(found)

    def _walk(self, count: int, rng: np.random.Generator) -> np.ndarray:
        left = self._ends(count, rng)
        node = np.zeros(count, np.int64)
        paths = np.full((count, self._table.steps), self._table.idle, np.int32)
        for step in range(self._table.steps):
            order = np.argsort(node, kind="stable")
            groups = np.split(order, np.flatnonzero(np.diff(node[order])) + 1)
            for mine in groups:
                at = int(node[mine[0]])
                if at != len(self._row) - 1:
                    edge = self._choose(at, left[:, mine], rng)
                    paths[mine, step] = edge
                    left[:, mine] -= self._rise[:, edge]
                    node[mine] = self._table.target[edge]
        return paths

    def _choose(self, node: int, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One of the edges of ``node`` for each cell ``left`` (2, N), by the ways that remain after it."""
        first, last = self._table.first[node], self._table.first[node + 1]
        rows = self._row[self._table.target[first:last]]
        after = left[:, :, None] - self._rise[:, None, first:last]
        possible = (after >= 0).all(0)
        ways = np.where(possible, self._ways[rows, *np.where(possible, after, 0)], 0.0).cumsum(1)
        draw = rng.random(len(ways)) * ways[:, -1]
        return first + np.minimum((ways <= draw[:, None]).sum(1), last - first - 1)

    def _ends(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Cells of total cost to draw paths for: int64 ``(2, count)``."""
        ways = self._ways[self._row[0]]
        if not self._even:
            flat = ways.ravel().cumsum()
            place = np.searchsorted(flat, rng.random(count) * flat[-1], side="right")
            return np.stack(np.unravel_index(np.minimum(place, len(flat) - 1), ways.shape)).astype(np.int64)
        some = np.flatnonzero(ways.sum(1))
        low, high = np.log(self._lowest + np.array([0, (some[-1] + 1) * self._unit]))
        wanted = (np.exp(rng.uniform(low, high, count)) - self._lowest) / self._unit
        after = np.searchsorted(some, wanted).clip(1, max(1, len(some) - 1))
        near = some[np.minimum(after, len(some) - 1)], some[after - 1]
        drawn = np.where(np.abs(near[0] + 0.5 - wanted) < np.abs(near[1] + 0.5 - wanted), *near)
        within = ways[drawn].cumsum(1)
        other = (within <= rng.random(count)[:, None] * within[:, -1:]).sum(1)
        return np.stack([drawn, np.minimum(other, ways.shape[1] - 1)]).astype(np.int64)


class _Scale:
    """One resource in at most ``cells`` + 1 cells, or in one that takes no notice of it.

    Attributes:
        unit: width of a cell.
        cells: how many there are up to the limit, counted from the cheapest path.
        rise: int64 ``(edges + 1,)``: by how many cells an edge is above the cheapest way on from its origin.
    """

    def __init__(self, lattice: Lattice, table: EdgeTable, name: Resource, limit: int | None, cells: int) -> None:
        cost, most = table.of(name), amount(lattice.most[0], name)
        least = np.array([amount(bound, name) for bound in lattice.least])
        room = max(0, (most if limit is None else min(most, limit)) - int(least[0]))
        self.unit = max(1, -(-room // cells)) if cells else 1 + most
        self.cells = room // self.unit + 1
        origin = np.repeat(np.arange(len(table.first) - 1), np.diff(table.first))
        self.rise = np.zeros_like(cost)
        self.rise[:-1] = (cost[:-1] + least[table.target[:-1]] - least[origin]) // self.unit
