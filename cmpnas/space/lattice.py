"""A search space as an acyclic graph of partial networks, and exact counting on it.

A node is what is known so far (stage, width, blocks left); an edge adds at most one layer and says
which decisions that took. Architectures are the paths from root to sink, so counting, extremes and
uniform sampling under a limit are dynamic programmes over nodes. Only sampling under two limits at once
rejects, a bounded number of times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.cost.value import Cost
from cmpnas.errors import BudgetError
from cmpnas.space.arch import Value
from cmpnas.space.layer import Layer

#: Counts outgrow 64 bits (`mobile` has 10^21 architectures), so each is held in limbs of this many bits,
#: lowest first; sums of up to 2^23 limbs stay exact in int64.
_LIMB = 40
_ROWS = 2**23
_DRAWS = 20_000  # paths within one limit that are tried against the other


@dataclass(frozen=True, slots=True)
class Edge:
    """One step: the decisions it takes, the layer it adds (if any), its cost, where it leads."""

    target: int
    cost: Cost
    layer: Layer | None = None
    choices: tuple[tuple[str, Value], ...] = ()


Path = tuple[Edge, ...]


@dataclass
class Lattice:
    """``edges[node]`` leave ``node``; nodes are numbered so that every edge leads upwards.

    Node 0 is the root; the last node is the sink.
    """

    edges: list[list[Edge]] = field(default_factory=list)

    def add(self) -> int:
        """A new node, numbered after all others."""
        self.edges.append([])
        return len(self.edges) - 1

    def _backwards(self) -> Iterator[tuple[int, list[Edge]]]:
        for node in range(len(self.edges) - 2, -1, -1):
            yield node, self.edges[node]

    @cached_property
    def paths(self) -> list[int]:
        """Number of ways from each node to the sink, exact."""
        ways = [0] * len(self.edges)
        ways[-1] = 1
        for node, edges in self._backwards():
            ways[node] = sum(ways[edge.target] for edge in edges)
        return ways

    @cached_property
    def cheapest(self) -> list[Cost]:
        """Smallest multiply-adds and smallest parameters from each node to the sink, each alone."""
        low = [Cost()] * len(self.edges)
        for node, edges in self._backwards():
            low[node] = Cost(
                min(edge.cost.macs + low[edge.target].macs for edge in edges),
                min(edge.cost.params + low[edge.target].params for edge in edges),
            )
        return low

    def extreme(self, *, largest: bool) -> Path:
        """The path of most or fewest multiply-adds; parameters break ties."""
        best: list[tuple[tuple[int, int], Path]] = [((0, 0), ())] * len(self.edges)
        choose = max if largest else min
        for node, edges in self._backwards():
            best[node] = choose(
                (
                    (
                        (edge.cost.macs + best[edge.target][0][0], edge.cost.params + best[edge.target][0][1]),
                        (edge, *best[edge.target][1]),
                    )
                    for edge in edges
                ),
                key=lambda pair: pair[0],
            )
        return best[0][1]

    def follow(self, wanted: Mapping[str, Value], budget: Budget | None = None) -> Path:
        """The path that takes the ``wanted`` decisions, or the nearest one within ``budget``.

        At each node, of the edges that can still be completed within the budget, the one that
        departs least from what is wanted is taken. The budget must be reachable.
        """
        node, spent, path = 0, Cost(), []
        while node != len(self.edges) - 1:
            edges = self.edges[node]
            if budget is not None:
                edges = [e for e in edges if self._can_finish(spent + e.cost, e.target, budget)]
            edge = min(edges, key=lambda e: self._departure(e, node, wanted))
            path.append(edge)
            spent, node = spent + edge.cost, edge.target
        return tuple(path)

    def _can_finish(self, spent: Cost, node: int, budget: Budget) -> bool:
        if budget.max_macs is not None and budget.max_params is not None:
            return any(budget.allows(spent + rest) for rest in self._best_ends[node])
        return budget.allows(spent + self.cheapest[node])

    def reachable(self, budget: Budget) -> bool:
        """Whether any architecture meets ``budget``."""
        return self._can_finish(Cost(), 0, budget)

    @cached_property
    def _best_ends(self) -> list[list[Cost]]:
        """From each node, the costs of finishing that no other beats in both resources."""
        ends = [[Cost()]] * len(self.edges)
        for node, edges in self._backwards():
            best: list[Cost] = []
            costs = {edge.cost + rest for edge in edges for rest in ends[edge.target]}
            for cost in sorted(costs, key=lambda c: (c.macs, c.params)):
                if not best or cost.params < best[-1].params:
                    best.append(cost)
            ends[node] = best
        return ends

    def _departure(self, edge: Edge, node: int, wanted: Mapping[str, Value]) -> int:
        """How many steps along each decision's list of values an edge is from what is wanted."""
        steps = 0
        for decision, value in edge.choices:
            values = self._values[node][decision]
            if wanted.get(decision) in values:
                steps += abs(values.index(value) - values.index(wanted[decision]))
        return steps

    @cached_property
    def _values(self) -> list[dict[str, list[Value]]]:
        """For each node: the decisions that its edges take, each with its values in order."""
        found: list[dict[str, list[Value]]] = [{} for _ in self.edges]
        for known, edges in zip(found, self.edges, strict=True):
            for decision, value in (choice for edge in edges for choice in edge.choices):
                if value not in known.setdefault(decision, []):
                    known[decision].append(value)
        return found

    # Counting and sampling under a budget

    def count(self, budget: Budget) -> int:
        """Number of architectures within ``budget``, exact.

        Raises:
            BudgetError: the space has too many distinct costs, as large spaces have under both limits.
        """
        if budget.max_macs is not None and budget.max_params is not None:
            return self._count_jointly(budget.max_macs, budget.max_params)
        return self._within(0, Cost(), budget)

    def sample(self, rng: random.Random, budget: Budget) -> Path:
        """A path drawn uniformly from those within ``budget``, which must not be empty.

        Under both limits, paths within the multiply-adds are drawn until one has few enough
        parameters, which is uniform too.

        Raises:
            BudgetError: hardly any path within the multiply-adds meets the parameters.
        """
        loose = Budget(mflops=budget.mflops) if budget.max_macs is not None else budget
        for _ in range(_DRAWS):
            path = self._sample(rng, loose)
            if budget.allows(sum((edge.cost for edge in path), Cost())):
                return path
        raise BudgetError(f"fewer than 1 in {_DRAWS:,} architectures within {loose} fit {budget}; raise one limit.")

    def _sample(self, rng: random.Random, budget: Budget) -> Path:
        node, spent, path = 0, Cost(), []
        while node != len(self.edges) - 1:
            ways = [self._within(e.target, spent + e.cost, budget) for e in self.edges[node]]
            draw = rng.randrange(sum(ways))
            chosen = 0
            while draw >= ways[chosen]:
                draw -= ways[chosen]
                chosen += 1
            edge = self.edges[node][chosen]
            path.append(edge)
            spent, node = spent + edge.cost, edge.target
        return tuple(path)

    def _within(self, node: int, spent: Cost, budget: Budget) -> int:
        """Ways to finish from ``node`` within what a ``budget`` of one limit leaves after ``spent``."""
        macs, params = budget.max_macs, budget.max_params
        if macs is None and params is None:
            return self.paths[node]
        if macs is not None:
            (costs, cumulative), left = self._by_macs[node], macs - spent.macs
        else:
            (costs, cumulative), left = self._by_params[node], (params or 0) - spent.params
        place = int(np.searchsorted(costs, left, side="right"))
        return _whole(cumulative[place - 1]) if place else 0

    @cached_property
    def _by_macs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(c, _carried(n.cumsum(0))) for c, n in self._histograms(lambda cost: cost.macs)]

    @cached_property
    def _by_params(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(c, _carried(n.cumsum(0))) for c, n in self._histograms(lambda cost: cost.params)]

    def _count_jointly(self, macs: int, params: int) -> int:
        """Ways within both limits, by a table of both costs in one integer, which adds like each of them."""
        most = [0] * len(self.edges)
        for node, edges in self._backwards():
            most[node] = max(edge.cost.params + most[edge.target] for edge in edges)
        unit = 1 + most[0]
        costs, counts = self._histograms(lambda cost: cost.macs * unit + cost.params)[0]
        return _whole(counts[(costs // unit <= macs) & (costs % unit <= params)].sum(0))

    def _histograms(self, resource: Callable[[Cost], int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each node: the distinct costs of finishing from it, ascending, and how many ways (limbs)."""
        one = np.zeros((1, -(-self.paths[0].bit_length() // _LIMB)), np.int64)
        one[0, 0] = 1
        found = [(np.zeros(1, np.int64), one)] * len(self.edges)
        for node, edges in self._backwards():
            if sum(len(found[e.target][0]) for e in edges) > _ROWS:
                raise BudgetError(
                    f"this space has over {_ROWS:,} distinct costs, too many to count; give fewer limits."
                )
            costs = np.concatenate([found[e.target][0] + resource(e.cost) for e in edges])
            counts = np.concatenate([found[e.target][1] for e in edges])
            order = np.argsort(costs, kind="stable")
            costs, counts = costs[order], counts[order]
            starts = np.flatnonzero(np.concatenate([[True], costs[1:] != costs[:-1]]))
            found[node] = costs[starts], _carried(np.add.reduceat(counts, starts))
        return found


def _carried(limbs: np.ndarray) -> np.ndarray:
    """The same numbers ``(N, L)`` with every limb below 2^40; in place."""
    for i in range(limbs.shape[1] - 1):
        limbs[:, i + 1] += limbs[:, i] >> _LIMB
        limbs[:, i] &= (1 << _LIMB) - 1
    return limbs


def _whole(limbs: np.ndarray) -> int:
    """One number from its limbs."""
    return sum(int(limb) << (_LIMB * i) for i, limb in enumerate(limbs))
