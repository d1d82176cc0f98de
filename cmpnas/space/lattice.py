"""A search space as an acyclic graph of partial networks.

A node is what is known so far (stage, width, blocks left); an edge adds at most one layer and says
which decisions that took. Architectures are the paths from root to sink, so counting, extremes and
sampling under a budget are dynamic programmes over nodes (`cmpnas.space.counting`, `.sampling`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cmpnas.cost.budget import Budget, Resource, amount
from cmpnas.cost.value import Cost
from cmpnas.space.arch import Choices, Value
from cmpnas.space.frontier import Frontier
from cmpnas.space.layer import Layer


@dataclass(frozen=True, slots=True)
class Edge:
    """One step: where it leads, its cost, the layer it adds (if any), the decisions it takes."""

    target: int
    cost: Cost
    layer: Layer | None = None
    choices: Choices = ()


Path = tuple[Edge, ...]


@dataclass
class Lattice:
    """``edges[node]`` leave ``node``; nodes are numbered so that every edge leads to a higher one.

    Node 0 is the root; the last node is the sink.
    """

    edges: list[list[Edge]] = field(default_factory=list)

    def add(self) -> int:
        """A new node, numbered after all others."""
        self.edges.append([])
        return len(self.edges) - 1

    def join(self, origin: int, target: int, cost: Cost, layer: Layer | None = None, choices: Choices = ()) -> None:
        """A new edge from ``origin`` to the later node ``target``."""
        self.edges[origin].append(Edge(target, cost, layer, choices))

    def backwards(self) -> Iterator[tuple[int, list[Edge]]]:
        """Every node but the sink with its edges, last first."""
        for node in range(len(self.edges) - 2, -1, -1):
            yield node, self.edges[node]

    @cached_property
    def decisions(self) -> dict[str, tuple[Value, ...]]:
        """Every decision with its values, in the order in which they are taken."""
        found: dict[str, dict[Value, None]] = {}
        for edge in (edge for edges in self.edges for edge in edges):
            for decision, value in edge.choices:
                found.setdefault(decision, {})[value] = None
        return {name: tuple(values) for name, values in found.items()}

    @cached_property
    def paths(self) -> list[int]:
        """Number of ways from each node to the sink, exact."""
        ways = [0] * len(self.edges)
        ways[-1] = 1
        for node, edges in self.backwards():
            ways[node] = sum(ways[edge.target] for edge in edges)
        return ways

    @cached_property
    def least(self) -> list[Cost]:
        """Smallest multiply-adds, parameters and nanoseconds from each node to the sink, each alone."""
        return self._bounds(min)

    @cached_property
    def most(self) -> list[Cost]:
        """Largest multiply-adds, parameters and nanoseconds from each node to the sink, each alone."""
        return self._bounds(max)

    def _bounds(self, choose: Callable[[list[int]], int]) -> list[Cost]:
        bound = [Cost(ns=0)] * len(self.edges)
        for node, edges in self.backwards():
            ways = [edge.cost + bound[edge.target] for edge in edges]
            times = [cost.ns for cost in ways if cost.ns is not None]
            bound[node] = Cost(
                choose([cost.macs for cost in ways]),
                choose([cost.params for cost in ways]),
                ns=choose(times) if len(times) == len(ways) else None,
            )
        return bound

    def extreme(self, *, largest: bool, timed: bool = False) -> Path:
        """The path of most or fewest multiply-adds, or nanoseconds; parameters break ties."""
        choose = max if largest else min
        best: list[tuple[int, int, Edge | None]] = [(0, 0, None)] * len(self.edges)
        for node, edges in self.backwards():
            costs = ((edge, (edge.cost.ns or 0) if timed else edge.cost.macs) for edge in edges)
            through = (
                (own + best[edge.target][0], edge.cost.params + best[edge.target][1], edge) for edge, own in costs
            )
            best[node] = choose(through, key=lambda found: found[:2])
        path, edge = [], best[0][2]
        while edge is not None:
            path.append(edge)
            edge = best[edge.target][2]
        return tuple(path)

    def find(self, choices: Mapping[str, Value]) -> Path | str:
        """The path that takes just these decisions, or the name of one that is missing or not possible.

        Decisions that the path does not meet are passed over.
        """
        node, path = 0, []
        while node != len(self.edges) - 1:
            names, by_values = self._switches[node]
            edge = by_values.get(tuple(choices.get(name) for name in names))
            if edge is None:
                return next((name for name in names if name not in choices), names[0])
            path.append(edge)
            node = edge.target
        return tuple(path)

    @cached_property
    def _switches(self) -> list[tuple[tuple[str, ...], dict[tuple[Value | None, ...], Edge]]]:
        """For each node: the decisions taken there, and the edge of each combination of values."""
        return [
            (
                tuple(name for name, _ in edges[0].choices) if edges else (),
                {tuple(value for _, value in edge.choices): edge for edge in edges},
            )
            for edges in self.edges
        ]

    def nearest(self, wanted: Mapping[str, Value], budget: Budget) -> Path:
        """The path closest to the ``wanted`` decisions within ``budget``, which must be reachable.

        At each node, of the edges that can still be completed within the budget, the one that
        departs least from what is wanted is taken.
        """
        limits = budget.limits
        node, path = 0, []
        while node != len(self.edges) - 1:
            edges = (e for e in self.edges[node] if self._can_finish(e.target, _less(limits, e.cost)))
            edge = min(edges, key=lambda e: self._departure(e, wanted))
            path.append(edge)
            limits, node = _less(limits, edge.cost), edge.target
        return tuple(path)

    def reachable(self, budget: Budget) -> bool:
        """Whether any architecture meets ``budget``.

        Raises:
            BudgetError: latency is limited, and nobody has measured it.
        """
        return self._can_finish(0, budget.limits)

    def _can_finish(self, node: int, left: Mapping[Resource, int]) -> bool:
        """Whether the sink can be reached from ``node`` with what is ``left`` of each limited resource."""
        least = self.least[node]
        if any(amount(least, name) > limit for name, limit in left.items()):
            return False
        return len(left) < 2 or self.frontier(*left).allows(node, *left.values())

    def frontier(self, first: Resource, second: Resource) -> Frontier:
        """From each node, the ends that no other beats in both resources."""
        if (first, second) not in self._frontiers:
            self._frontiers[first, second] = Frontier(
                [[(e.target, amount(e.cost, first), amount(e.cost, second)) for e in edges] for edges in self.edges]
            )
        return self._frontiers[first, second]

    @cached_property
    def _frontiers(self) -> dict[tuple[Resource, Resource], Frontier]:
        return {}

    def _departure(self, edge: Edge, wanted: Mapping[str, Value]) -> int:
        """How many steps along each decision's list of values an edge is from what is wanted."""
        steps = 0
        for decision, value in edge.choices:
            place = self._places[decision]
            if wanted.get(decision) in place:
                steps += abs(place[value] - place[wanted[decision]])
        return steps

    @cached_property
    def _places(self) -> dict[str, dict[Value, int]]:
        return {name: {value: i for i, value in enumerate(values)} for name, values in self.decisions.items()}


def _less(left: Mapping[Resource, int], cost: Cost) -> dict[Resource, int]:
    """What ``cost`` leaves of each limited resource."""
    return {name: limit - amount(cost, name) for name, limit in left.items()}
