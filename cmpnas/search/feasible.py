"""What a controller may propose: the architectures of a space within a budget, or those of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.errors import SpaceError
from cmpnas.space import Arch, Archs, SearchSpace
from cmpnas.space.arch import Value

#: See `SearchSpace.sample_many`.
Over = Literal["architectures", "cost"]


class Candidates(NamedTuple):
    """Feasible architectures as ``genes``, int16 ``(N, decisions)`` (`SearchSpace.genes`), and ``cost``, ``(N,)``.

    The cost is what the search lowers: milliseconds where they are limited, else MFLOPs.
    """

    genes: np.ndarray
    cost: np.ndarray


class Feasible(Protocol):
    """The set that a controller chooses from. Whatever it gives is in it, so no proposal can be infeasible."""

    @property
    def decisions(self) -> Mapping[str, tuple[Value, ...]]:
        """Every decision with its values, in the order of genes."""
        ...

    def ends(self) -> tuple[Arch, Arch]:
        """The cheapest architecture, and one as dear as the set goes or nearly."""
        ...

    def nearest(self, choices: Mapping[str, Value]) -> Arch:
        """The architecture closest to ``choices``, decision by decision."""
        ...

    def nearest_many(self, genes: np.ndarray) -> Candidates:
        """The same of many proposals; -1 stands for a decision without a wish."""
        ...

    def draw(self, count: int, seed: int, over: Over = "architectures") -> Candidates:
        """``count`` random architectures, uniformly or evenly over log cost; some may be equal."""
        ...

    def everything(self, at_most: int) -> Candidates | None:
        """All architectures; None if there are more than ``at_most``."""
        ...

    def genes(self, arch: Arch) -> np.ndarray:
        """The genes of one architecture, int16 ``(decisions,)``."""
        ...

    def arch(self, genes: np.ndarray) -> Arch:
        """The architecture of ``genes``, a row of `Candidates`."""
        ...

    def capped(self, cost: float) -> Feasible:
        """Those of at most ``cost``, which the cheapest must meet."""
        ...


class Within:
    """The architectures of ``space`` within ``budget``.

    Raises:
        BudgetError: there is none.
    """

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        space.require_reachable(budget)
        self.space, self.budget = space, budget
        self.decisions = space.decisions

    def ends(self) -> tuple[Arch, Arch]:
        cheapest, dearest = self.space.extremes()
        if self.budget.latency_ms is not None:
            cheapest = self.space.fastest()
        return self.nearest(dict(cheapest.choices)), self.nearest(dict(dearest.choices))

    def nearest(self, choices: Mapping[str, Value]) -> Arch:
        return self.space.nearest(choices, self.budget)

    def nearest_many(self, genes: np.ndarray) -> Candidates:
        return self._candidates(self.space.nearest_many(genes, self.budget))

    def draw(self, count: int, seed: int, over: Over = "architectures") -> Candidates:
        budget = self.budget
        return self._candidates(
            self.space.sample_many(
                count,
                seed,
                max_mflops=budget.mflops,
                max_params_m=budget.params_m,
                max_latency_ms=budget.latency_ms,
                over=over,
            )
        )

    def everything(self, at_most: int) -> Candidates | None:
        archs = self.space.everything(self.budget, at_most=at_most)
        return None if archs is None else self._candidates(archs)

    def genes(self, arch: Arch) -> np.ndarray:
        return self.space.genes([arch])[0]

    def arch(self, genes: np.ndarray) -> Arch:
        return self.space.nearest_many(genes[None], Budget())[0]

    def capped(self, cost: float) -> Within:
        name = "mflops" if self.budget.latency_ms is None else "latency_ms"
        limit = getattr(self.budget, name)
        return Within(self.space, replace(self.budget, **{name: cost if limit is None else min(cost, limit)}))

    def _candidates(self, archs: Archs) -> Candidates:
        latency = None if self.budget.latency_ms is None else archs.ns
        return Candidates(self.space.genes(archs), (archs.macs if latency is None else latency) / 1e6)


class Table:
    """The architectures ``archs`` of ``space``, and no others.

    What a controller wants becomes the nearest of them: first the nearest of the space, then the one that departs
    from it least. A decision that both meet departs by the share of its list of values that lies between the two;
    one that only one of them meets departs by 1.

    Args:
        archs: all different.
        costs: what a search lowers, as MFLOPs are.
    """

    def __init__(self, space: SearchSpace, archs: Sequence[Arch], costs: Sequence[float]) -> None:
        self.space, self.archs, self.costs = space, list(archs), np.array(costs, float)
        self.decisions = space.decisions
        self._genes = space.genes(archs)
        self._row = {genes.tobytes(): row for row, genes in enumerate(self._genes)}

    def ends(self) -> tuple[Arch, Arch]:
        return self.archs[int(self.costs.argmin())], self.archs[int(self.costs.argmax())]

    def nearest(self, choices: Mapping[str, Value]) -> Arch:
        try:
            wanted = self.space.arch(choices)
        except SpaceError:  # something is missing, or cannot stand beside what is decided before it
            wanted = self.space.nearest(choices, Budget())
        return self.archs[self._nearest_row(self.genes(wanted))]

    def nearest_many(self, genes: np.ndarray) -> Candidates:
        wanted = self.space.genes(self.space.nearest_many(genes, Budget()))
        return self._candidates(np.array([self._nearest_row(row) for row in wanted], int))

    def draw(self, count: int, seed: int, over: Over = "architectures") -> Candidates:
        rng = np.random.default_rng(seed)
        if over == "architectures":
            return self._candidates(rng.integers(len(self.archs), size=count))
        order = np.argsort(self.costs, kind="stable")
        costs = np.log(self.costs[order])
        place = np.searchsorted((costs[1:] + costs[:-1]) / 2, rng.uniform(costs[0], costs[-1], count))
        return self._candidates(order[place])

    def everything(self, at_most: int) -> Candidates | None:
        return Candidates(self._genes, self.costs) if len(self.archs) <= at_most else None

    def genes(self, arch: Arch) -> np.ndarray:
        return self.space.genes([arch])[0]

    def arch(self, genes: np.ndarray) -> Arch:
        return self.archs[self._row[genes.tobytes()]]

    def capped(self, cost: float) -> Table:
        rows = np.flatnonzero(self.costs <= cost)
        return Table(self.space, [self.archs[row] for row in rows], self.costs[rows].tolist())

    def _nearest_row(self, genes: np.ndarray) -> int:
        if (known := self._row.get(genes.tobytes())) is not None:
            return known
        met, wanted = self._genes >= 0, genes >= 0
        apart = np.abs(self._genes - genes) * self._steps
        return int(np.where(met & wanted, apart, met != wanted).sum(1).argmin())

    @cached_property
    def _steps(self) -> np.ndarray:
        """The share of its list that one step along a decision's values is."""
        return np.array([1 / max(1, len(values) - 1) for values in self.decisions.values()])

    def _candidates(self, rows: np.ndarray) -> Candidates:
        return Candidates(self._genes[rows], self.costs[rows])
