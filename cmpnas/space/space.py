"""The search space: what may vary, what each point costs, which points fit a budget."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.cost.latency import LatencyTable
from cmpnas.cost.value import Cost
from cmpnas.errors import SpaceError, unknown
from cmpnas.space.arch import Arch, Value, short, spelled_out
from cmpnas.space.batch import Archs
from cmpnas.space.blueprint import Blueprint, unit_of
from cmpnas.space.counting import count
from cmpnas.space.genes import GeneTable
from cmpnas.space.lattice import Path
from cmpnas.space.layer import Layer
from cmpnas.space.reach import unreachable
from cmpnas.space.sampling import Sampler
from cmpnas.space.table import EdgeTable
from cmpnas.space.timed import Timed, require_own
from cmpnas.space.walk import Walker

#: Of a resource; None is no limit.
Limit = float | None


class SearchSpace:
    """A space at one input size and embedding width."""

    def __init__(self, blueprint: Blueprint, size: int | None = None, embedding_dim: int | None = None) -> None:
        self._blueprint = blueprint
        self.name = blueprint.name
        #: Side of the square input in pixels.
        self.size = blueprint.size if size is None else size
        self.embedding_dim = blueprint.embedding_dim if embedding_dim is None else embedding_dim
        #: What ``size`` counts: pixels, or the tokens of a text.
        self.unit = unit_of(blueprint)
        self.lattice = blueprint.lattice(self.size, self.embedding_dim)
        self._sampler = lru_cache(maxsize=8)(self._make_sampler)
        self._walker = lru_cache(maxsize=8)(self._make_walker)
        for decision, values in self.decisions.items():
            for value in values:
                if isinstance(value, str) and not re.fullmatch(r"\w+", value, re.ASCII):
                    raise SpaceError(
                        f"{decision} has the value {value!r}, and ids are names of files; use letters, digits and _."
                    )
            if len({short(value) for value in values}) < len(values):
                raise SpaceError(
                    f"values of {decision} look alike in an id, of which words keep two letters: {values}."
                )

    def resized(self, size: int | None = None, embedding_dim: int | None = None) -> SearchSpace:
        """The same space at another input size or embedding width; costs follow."""
        return SearchSpace(self._blueprint, size or self.size, embedding_dim or self.embedding_dim)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that the space holds: equal spaces have equal ones."""
        return hashlib.sha256(repr((self.name, self.size, self.lattice.edges)).encode()).hexdigest()[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """What a latency table says of the space that it was measured on."""
        own = {"name": self.name, "size": self.size, "embedding_dim": self.embedding_dim}
        return own | {"fingerprint": self.fingerprint}

    def timed(self, table: LatencyTable) -> SearchSpace:
        """This space with costs that know nanoseconds, so that latency can be limited as anything else.

        Raises:
            LatencyError: the table is of another space, or an operator of this one is not in it.
        """
        require_own(table, self.identity)
        return SearchSpace(Timed(self._blueprint, table), self.size, self.embedding_dim)

    @property
    def latency_table(self) -> LatencyTable | None:
        """Where this space's nanoseconds are from."""
        return self._blueprint.table if isinstance(self._blueprint, Timed) else None

    @property
    def operators(self) -> dict[str, tuple[Layer, Cost]]:
        """What a device may be asked to do, by `Layer.operator`: one of the layers that ask it, and its cost."""
        edges = (edge for leaving in self.lattice.edges for edge in leaving)
        return {edge.layer.operator: (edge.layer, edge.cost) for edge in edges if edge.layer is not None}

    # Decisions

    @property
    def decisions(self) -> dict[str, tuple[Value, ...]]:
        """Every decision of the space with its values, in the order in which they are taken."""
        return self.lattice.decisions

    def arch(self, choices: Mapping[str, Value]) -> Arch:
        """The architecture that takes ``choices``; decisions that do not matter are dropped.

        ``stage1.kernel`` stands for ``stage1.block1.kernel`` and so on, where blocks decide on their own.

        Raises:
            SpaceError: a decision is unknown, missing, or has a value that it does not allow.
        """
        choices = spelled_out(choices, self.decisions)
        for decision, value in choices.items():
            if decision not in self.decisions:
                raise SpaceError(unknown(f"decision of space {self.name!r}", decision, self.decisions))
            if value not in self.decisions[decision] or isinstance(value, bool):
                allowed = ", ".join(f"{v:g}" if not isinstance(v, str) else v for v in self.decisions[decision])
                raise SpaceError(f"{decision} = {value!r} is not in space {self.name!r}; allowed: {allowed}.")
        path = self.lattice.find(choices)
        if isinstance(path, str):
            if path in choices:
                raise SpaceError(f"{path} = {choices[path]!r} cannot stand beside the decisions before it.")
            raise SpaceError(f"{path} is missing; space {self.name!r} needs a value for it.")
        return self._arch(path)

    def named(self, which: Literal["smallest", "largest"] | Mapping[str, Value]) -> Arch:
        """One of the extremes, or `arch` of choices: how settings name an architecture.

        Raises:
            SpaceError: as `arch`.
        """
        return self.arch(which) if isinstance(which, Mapping) else self.extremes()[which == "largest"]

    def from_json(self, content: Any) -> Arch:
        """Read back what `Arch.to_json` wrote.

        Raises:
            SpaceError: it is of another space or not an architecture.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("choices"), Mapping):
            raise SpaceError('an architecture is {"space": name, "choices": {decision: value}}.')
        if content.get("space") != self.name:
            raise SpaceError(f"this architecture is of space {content.get('space')!r}, not {self.name!r}.")
        return self.arch(content["choices"])

    def _arch(self, path: Path) -> Arch:
        return Arch(self.name, tuple(choice for edge in path for choice in edge.choices))

    def _path(self, arch: Arch) -> Path:
        if arch.space != self.name:
            raise SpaceError(f"architecture {arch.id} is of space {arch.space!r}, not {self.name!r}.")
        path = self.lattice.find(dict(arch.choices))
        if isinstance(path, str):
            raise SpaceError(f"architecture {arch.id} has no {path} that space {self.name!r} knows.")
        return path

    # Structure and cost

    def layers(self, arch: Arch) -> tuple[Layer, ...]:
        """The layers of ``arch``, from stem to embedding."""
        return tuple(edge.layer for edge in self._path(arch) if edge.layer is not None)

    def cost(self, arch: Arch) -> Cost:
        """Exact cost of ``arch`` at this space's input size."""
        return sum((edge.cost for edge in self._path(arch)), Cost(ns=0))

    def batch(self, archs: Iterable[Arch]) -> Archs:
        """``archs`` as rows of an array, with costs as arrays."""
        return self._archs(self._table.encode(map(self._path, archs)))

    def _archs(self, rows: np.ndarray) -> Archs:
        return Archs(rows, self._table, lambda row: self._arch(self._table.decode(row)))

    def genes(self, archs: Archs | Iterable[Arch]) -> np.ndarray:
        """Architectures as integers: for each of `decisions` the position of the value taken, -1 where none is.

        Returns:
            int16 ``(N, decisions)``; equal rows are equal architectures.
        """
        return self._gene_table.of_rows(archs.rows) if isinstance(archs, Archs) else self._gene_table.of_archs(archs)

    @cached_property
    def _table(self) -> EdgeTable:
        return EdgeTable(self.lattice)

    @cached_property
    def _gene_table(self) -> GeneTable:
        return GeneTable(self.lattice)

    # Counting and sampling

    def count(self, *, max_mflops: Limit = None, max_params_m: Limit = None, max_latency_ms: Limit = None) -> int:
        """Number of architectures within the limits, exact; may be 0.

        Raises:
            BudgetError: the space is too large to count under two limits, or milliseconds are limited without a
                latency table (`timed`).
        """
        return count(self.lattice, Budget(max_mflops, max_params_m, max_latency_ms))

    def extremes(self) -> tuple[Arch, Arch]:
        """The architectures of fewest and of most multiply-adds."""
        least, most = (self.lattice.extreme(largest=largest) for largest in (False, True))
        return self._arch(least), self._arch(most)

    def fastest(self) -> Arch:
        """The architecture of fewest milliseconds, where a latency table gives any."""
        return self._arch(self.lattice.extreme(largest=False, timed=True))

    def sample(
        self, rng: random.Random, *, max_mflops: Limit = None, max_params_m: Limit = None, max_latency_ms: Limit = None
    ) -> Arch:
        """Draw uniformly from the architectures within the limits.

        Raises:
            BudgetError: there is none; the message names the nearest that can be reached.
        """
        seed = rng.getrandbits(64)
        return self.sample_many(
            1, seed, max_mflops=max_mflops, max_params_m=max_params_m, max_latency_ms=max_latency_ms
        )[0]

    def sample_many(
        self,
        count: int,
        seed: int,
        *,
        max_mflops: Limit = None,
        max_params_m: Limit = None,
        max_latency_ms: Limit = None,
        over: Literal["architectures", "cost"] = "architectures",
    ) -> Archs:
        """Draw ``count`` architectures within the limits, tens of thousands a second.

        Args:
            over: uniformly over ``architectures``, of which nearly all are of middling cost; or
                log-uniformly over ``cost`` in multiply-adds (in latency, within limits on it and on parameters), and
                then uniformly over architectures of that cost (give or take a hundredth of the range), which trains
                the small ones as often as the large.

        Raises:
            BudgetError: there is none; the message names the nearest that can be reached.
        """
        sampler = self._sampler(Budget(max_mflops, max_params_m, max_latency_ms), over == "cost")
        return self._archs(sampler.draw(count, np.random.default_rng(seed)))

    def _make_sampler(self, budget: Budget, even: bool) -> Sampler:
        self.require_reachable(budget)
        return Sampler(self.lattice, self._table, budget, even=even)

    def nearest(self, choices: Mapping[str, Value], budget: Budget) -> Arch:
        """The architecture closest to ``choices``, decision by decision, that fits ``budget``.

        This is how a controller's free proposal becomes a feasible architecture.

        Raises:
            BudgetError: none fits.
        """
        self.require_reachable(budget)
        return self._arch(self.lattice.nearest(choices, budget))

    def nearest_many(self, genes: np.ndarray, budget: Budget) -> Archs:
        """`nearest` of many proposals at once, each a row of `genes`; -1 stands for a decision without a wish.

        Raises:
            BudgetError: none fits.
        """
        return self._archs(self._walker(budget).nearest(genes))

    def everything(self, budget: Budget, *, at_most: int) -> Archs | None:
        """All architectures within ``budget``; None if there are more than ``at_most``.

        Raises:
            BudgetError: there is none.
        """
        rows = self._walker(budget).everything(at_most)
        return None if rows is None else self._archs(rows)

    def _make_walker(self, budget: Budget) -> Walker:
        self.require_reachable(budget)
        return Walker(self.lattice, self._table, self._gene_table, budget)

    def require_reachable(self, budget: Budget) -> None:
        """Check that some architecture meets ``budget``.

        Raises:
            BudgetError: none does; names the nearest that can be reached.
        """
        if not self.lattice.reachable(budget):
            raise unreachable(self, budget)
