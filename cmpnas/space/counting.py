"""How many architectures fit a budget, exactly.

The distribution of costs is built from both ends of the graph, by whichever end has fewer distinct
costs so far, and the two are matched where they meet: the middle of a space of 10^30 architectures is
reached with thousands of costs from either side, where one pass would end with millions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from cmpnas.cost.budget import Budget, Resource, amount
from cmpnas.errors import BudgetError
from cmpnas.progress import track
from cmpnas.space.lattice import Lattice

_SPAN = 2**25  # longest run of costs that is counted in an array of its own
_ROWS = 2**23  # distinct costs held at once, where they lie far apart
_SAFE = 2**62  # counts from here on do not fit int64

#: Distinct costs, ascending int64 ``(N,)``, and how many ways there are to each: int64, or Python's
#: integers where they would not fit.
Histogram = tuple[np.ndarray, np.ndarray]


def count(lattice: Lattice, budget: Budget) -> int:
    """Number of paths within ``budget``, exact.

    Raises:
        BudgetError: the space has too many distinct costs, as large spaces have under both limits.
    """
    most = {name: amount(lattice.most[0], name) for name in budget.limits}
    limits = {name: limit for name, limit in budget.limits.items() if limit < most[name]}  # what all meet is no limit
    if not limits:
        return lattice.paths[0]
    if not lattice.reachable(budget):
        return 0
    names = tuple(limits)
    # Both costs in one integer, which adds like each of them.
    unit = 1 + most[names[1]] if len(names) == 2 else 1
    if most[names[0]] * unit + most[names[-1]] >= 2**63:
        raise BudgetError("costs of this space are too large to be counted under both limits; give one of them.")
    graph = _Graph(lattice, names, unit)
    return sum(_matches(front, back, tuple(limits.values()), unit) for front, back in graph.halves())


class _Graph:
    """The lattice with nodes of equal futures merged and parallel edges counted."""

    def __init__(self, lattice: Lattice, names: tuple[Resource, ...], unit: int) -> None:
        known: dict[frozenset[tuple[tuple[int, int], int]], int] = {}
        of = [0] * len(lattice.edges)
        edges: list[Counter[tuple[int, int]]] = [Counter()]  # by class: (target class, cost) -> ways
        level = [0]  # steps to the end
        for node, leaving in lattice.backwards():
            steps = Counter(
                (of[e.target], amount(e.cost, names[0]) * unit + sum(amount(e.cost, name) for name in names[1:]))
                for e in leaving
            )
            key = frozenset(steps.items())
            if key not in known:
                known[key] = len(edges)
                edges.append(steps)
                level.append(1 + max(level[target] for target, _ in steps))
            of[node] = known[key]
        # Numbered level by level, so that both ends advance through all branches at once.
        order = sorted(range(len(edges)), key=level.__getitem__)
        place = {old: new for new, old in enumerate(order)}
        self.edges = [
            Counter({(place[target], cost): ways for (target, cost), ways in edges[old].items()}) for old in order
        ]

    def halves(self) -> list[tuple[Histogram, Histogram]]:
        """Pairs of histograms, before and after a meeting point; each path is in just one pair."""
        root = len(self.edges) - 1
        after = {0: _single()}
        arriving: dict[int, list[Histogram]] = {root: [_single()]}
        low, high = 1, root  # classes below low are known from the end, above high from the start
        for _ in track(range(root), "counting", total=root):
            if _rows(after.values()) <= _rows(h for some in arriving.values() for h in some):
                parts = [_shifted(after[target], cost, ways) for (target, cost), ways in self.edges[low].items()]
                after[low] = _merged(parts)
                low += 1
            else:
                before = _merged(arriving.pop(high))
                for (target, cost), ways in self.edges[high].items():
                    arriving.setdefault(target, []).append(_shifted(before, cost, ways))
                high -= 1
        return [(_merged(parts), after[target]) for target, parts in arriving.items()]


def _single() -> Histogram:
    return np.zeros(1, np.int64), np.ones(1, np.int64)


def _rows(histograms: Iterable[Histogram]) -> int:
    return sum(len(costs) for costs, _ in histograms)


def _shifted(histogram: Histogram, cost: int, ways: int) -> Histogram:
    costs, counts = histogram
    return costs + cost, counts if ways == 1 else _roomy(counts, ways) * ways


def _roomy(counts: np.ndarray, factor: int) -> np.ndarray:
    """``counts`` in a type that holds their sum times ``factor``."""
    fits = counts.dtype != object and float(counts.sum(dtype=np.float64)) * factor < _SAFE
    return counts if fits else counts.astype(object)


def _merged(parts: list[Histogram]) -> Histogram:
    """The sum of histograms."""
    if len(parts) == 1:
        return parts[0]
    rows = _rows(parts)
    low, high = min(costs[0] for costs, _ in parts), max(costs[-1] for costs, _ in parts)
    grain = int(np.gcd.reduce([np.gcd.reduce(costs - low) for costs, _ in parts])) or 1
    span = int(high - low) // grain + 1
    if span > 4 * rows or span > _SPAN:
        return _merged_by_sorting(parts, rows)
    dtype = object if any(counts.dtype == object for _, counts in parts) else np.int64
    total = sum(float(counts.sum(dtype=np.float64)) for _, counts in parts)
    dense = np.zeros(span, object if total >= _SAFE else dtype)
    for costs, counts in parts:
        dense[(costs - low) // grain] += counts
    some = np.flatnonzero(dense)
    return low + some * grain, dense[some]


def _merged_by_sorting(parts: list[Histogram], rows: int) -> Histogram:
    if rows > 2 * _ROWS:
        raise _too_many()
    costs = np.concatenate([costs for costs, _ in parts])
    counts = _roomy(np.concatenate([counts for _, counts in parts]), 1)
    order = np.argsort(costs, kind="stable")
    costs, counts = costs[order], counts[order]
    starts = np.flatnonzero(np.concatenate([[True], costs[1:] != costs[:-1]]))
    if len(starts) > _ROWS:
        raise _too_many()
    return costs[starts], np.add.reduceat(counts, starts)


def _too_many() -> BudgetError:
    return BudgetError(f"this space has over {_ROWS:,} distinct costs, too many to count; give fewer limits.")


def _matches(front: Histogram, back: Histogram, limits: tuple[int, ...], unit: int) -> int:
    """Pairs of a beginning and an end whose sum is within the limits."""
    if len(limits) == 1:
        places = np.searchsorted(back[0], limits[0] - front[0], side="right")
        ways = np.concatenate([[0], _cumulative(back[1])])
        return _dot(front[1], ways[places])
    return _dominated(front, back, limits[0], limits[1], unit)


def _dominated(front: Histogram, back: Histogram, first: int, second: int, unit: int) -> int:
    """As `_matches`, under both limits: ends that fit the first are a run of ``back``; the run is
    cut into blocks of powers of two, each sorted by the second once."""
    keys, counts = back[0] % unit, back[1]
    runs = np.searchsorted(back[0] // unit, first - front[0] // unit, side="right")
    room = second - front[0] % unit
    total, width = 0, 1
    while width <= len(keys):
        mine = np.flatnonzero(runs & width)  # the runs that hold a block of this width
        mine = mine[room[mine] >= 0]
        block = (runs[mine] & ~(2 * width - 1)) // width
        sorter = np.lexsort((keys, np.arange(len(keys)) // width))
        marks = (np.arange(len(keys)) // width) * unit + keys[sorter]
        ways = np.concatenate([[0], _cumulative(counts[sorter])])
        ends = np.searchsorted(marks, block * unit + np.minimum(room[mine], unit - 1), side="right")
        total += _dot(front[1][mine], ways[ends]) - _dot(front[1][mine], ways[block * width])
        width *= 2
    return total


def _cumulative(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(_roomy(counts, 1))


def _dot(left: np.ndarray, right: np.ndarray) -> int:
    """The exact sum of products."""
    return int(np.dot(left.astype(object), right.astype(object))) if len(left) else 0
