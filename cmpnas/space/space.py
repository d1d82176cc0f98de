"""The search space: what may vary, what each point costs, which points fit a budget."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cmpnas.cost.budget import Budget
from cmpnas.cost.value import Cost
from cmpnas.errors import BudgetError, SpaceError, unknown
from cmpnas.space.arch import Arch, Value
from cmpnas.space.lattice import Edge, Lattice, Path
from cmpnas.space.layer import Layer, layer_cost
from cmpnas.space.spec import SpaceSpec, StageSpec, check_spec


@dataclass(frozen=True)
class SearchSpace:
    """A space read from its specification, at one input size and embedding width."""

    spec: SpaceSpec

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return self.spec.size

    @property
    def embedding_dim(self) -> int:
        return self.spec.embedding_dim

    def resized(self, size: int | None = None, embedding_dim: int | None = None) -> SearchSpace:
        """The same space at another input size or embedding width; costs follow."""
        content = self.spec.model_dump()
        content["size"] = self.size if size is None else size
        content["embedding_dim"] = self.embedding_dim if embedding_dim is None else embedding_dim
        return SearchSpace(check_spec(content, f"space {self.name!r}"))

    # Decisions

    @cached_property
    def decisions(self) -> dict[str, tuple[Value, ...]]:
        """Every decision of the space with its values, in the order in which they are taken."""
        found: dict[str, tuple[Value, ...]] = {}
        for stage in self.spec.stages:
            found[f"{stage.name}.width"] = stage.width
            found[f"{stage.name}.depth"] = stage.depth
            for block in range(1, max(stage.depth) + 1):
                for name, values in stage.choices().items():
                    found[f"{stage.name}.block{block}.{name}"] = values
        return found

    def arch(self, choices: Mapping[str, Value]) -> Arch:
        """The architecture that takes ``choices``; decisions that do not matter are dropped.

        A decision with a single value may be left out.

        Raises:
            SpaceError: a decision is unknown, missing, or has a value that it does not allow.
        """
        for decision, value in choices.items():
            if decision not in self.decisions:
                raise SpaceError(unknown(f"decision of space {self.name!r}", decision, self.decisions))
            if value not in self.decisions[decision] or isinstance(value, bool):
                allowed = ", ".join(f"{v:g}" if not isinstance(v, str) else v for v in self.decisions[decision])
                raise SpaceError(f"{decision} = {value!r} is not in space {self.name!r}; allowed: {allowed}.")
        path = self.lattice.follow(choices)
        for edge in path:
            for decision, _ in edge.choices:
                if decision not in choices and len(self.decisions[decision]) > 1:
                    raise SpaceError(f"{decision} is missing; space {self.name!r} needs a value for it.")
        return self._arch(path)

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

    # Structure and cost

    def layers(self, arch: Arch) -> tuple[Layer, ...]:
        """The layers of ``arch``, from stem to embedding."""
        return tuple(edge.layer for edge in self._path(arch) if edge.layer is not None)

    def cost(self, arch: Arch) -> Cost:
        """Exact cost of ``arch`` at this space's input size."""
        return sum((edge.cost for edge in self._path(arch)), Cost())

    def _path(self, arch: Arch) -> Path:
        if arch.space != self.name:
            raise SpaceError(f"architecture {arch.id} is of space {arch.space!r}, not {self.name!r}.")
        return self.lattice.follow(dict(arch.choices))

    # Counting and sampling

    def count(self, *, max_mflops: float | None = None, max_params_m: float | None = None) -> int:
        """Number of architectures within the limits, exact; may be 0."""
        return self.lattice.count(Budget(max_mflops, max_params_m))

    def extremes(self) -> tuple[Arch, Arch]:
        """The architectures of fewest and of most multiply-adds."""
        least, most = (self.lattice.extreme(largest=largest) for largest in (False, True))
        return self._arch(least), self._arch(most)

    def sample(self, rng: random.Random, *, max_mflops: float | None = None, max_params_m: float | None = None) -> Arch:
        """Draw uniformly from the architectures within the limits.

        Raises:
            BudgetError: there is none; the message names the smallest reachable cost.
        """
        budget = Budget(max_mflops, max_params_m)
        self.require_reachable(budget)
        return self._arch(self.lattice.sample(rng, budget))

    def nearest(self, choices: Mapping[str, Value], budget: Budget) -> Arch:
        """The architecture closest to ``choices``, decision by decision, that fits ``budget``.

        This is how a controller's free proposal becomes a feasible architecture.
        """
        return self._arch(self.lattice.follow(choices, budget))

    def require_reachable(self, budget: Budget) -> None:
        """Check that some architecture meets ``budget``.

        Raises:
            BudgetError: none does; names the smallest reachable cost and the architecture nearest.
        """
        lowest = self.lattice.cheapest[0]
        smallest, _ = self.extremes()
        for limit, alone, least, unit, flag in (
            (budget.mflops, Budget(mflops=budget.mflops), lowest.mflops, "MFLOPs", "--budget-mflops"),
            (budget.params_m, Budget(params_m=budget.params_m), lowest.params_m, "M parameters", "--budget-params-m"),
        ):
            if not self.lattice.reachable(alone):
                raise BudgetError(
                    f"no architecture of space {self.name!r} at {self.size} px fits {limit:g} {unit}: "
                    f"the smallest reachable is {least:.6g} {unit} ({smallest.id}); raise {flag}."
                )
        if not self.lattice.reachable(budget):
            raise BudgetError(
                f"no architecture of space {self.name!r} fits {budget}: each limit is reachable alone "
                f"(from {lowest.mflops:.6g} MFLOPs, {lowest.params_m:.6g} M parameters), not both; raise one."
            )

    # Building the graph

    @cached_property
    def lattice(self) -> Lattice:
        """The space as a graph of partial networks."""
        return _build(self.spec)


def _build(spec: SpaceSpec) -> Lattice:
    """Stem, stages, optional last convolution, embedding; nodes are numbered stage by stage."""
    lattice = Lattice()
    root = lattice.add()
    stem = _conv_layer("stem", 3, spec.size, spec.stem)
    reached = {stem.cout: lattice.add()}
    lattice.edges[root].append(Edge(reached[stem.cout], layer_cost(stem), stem))
    size = stem.out_size
    for stage in spec.stages:
        reached = _add_stage(lattice, stage, reached, size)
        size = -(-size // stage.stride)
    if spec.last is not None:
        merged = lattice.add()
        for width, node in reached.items():
            layer = _conv_layer("last", width, size, spec.last)
            lattice.edges[node].append(Edge(merged, layer_cost(layer), layer))
        reached = {spec.last.width: merged}
        size = layer.out_size
    sink = lattice.add()
    for width, node in reached.items():
        layer = Layer("embed", "embed", width, spec.embedding_dim, 1, size)
        lattice.edges[node].append(Edge(sink, layer_cost(layer), layer))
    return lattice


def _conv_layer(position: str, cin: int, size: int, spec: Any) -> Layer:
    options = (("kernel", spec.kernel), ("activation", spec.activation))
    return Layer(position, "conv", cin, spec.width, spec.stride, size, options)


def _add_stage(lattice: Lattice, stage: StageSpec, reached: dict[int, int], size: int) -> dict[int, int]:
    """Append one stage; takes and returns the node reached at each width.

    Chains are laid out depth by depth so that every edge leads to a node numbered later.
    """
    entries: list[tuple[int, int, int, int]] = []  # node, cin, width, depth
    for cin, origin in reached.items():
        for width in stage.width:
            for depth in stage.depth:
                node = lattice.add()
                taken = ((f"{stage.name}.width", width), (f"{stage.name}.depth", depth))
                lattice.edges[origin].append(Edge(node, Cost(), None, taken))
                entries.append((node, cin, width, depth))
    out_size = -(-size // stage.stride)
    rest = {
        (width, depth, done): lattice.add()
        for done in range(1, max(stage.depth))
        for width in stage.width
        for depth in stage.depth
        if done < depth
    }
    ends = {width: lattice.add() for width in stage.width}
    for node, cin, width, depth in entries:
        target = rest.get((width, depth, 1), ends[width])
        lattice.edges[node] += _block_edges(stage, 1, cin, width, stage.stride, size, target)
    for (width, depth, done), node in rest.items():
        target = rest.get((width, depth, done + 1), ends[width])
        lattice.edges[node] += _block_edges(stage, done + 1, width, width, 1, out_size, target)
    return ends


def _block_edges(stage: StageSpec, block: int, cin: int, width: int, stride: int, size: int, target: int) -> list[Edge]:
    """One edge for every setting of one block."""
    position = f"{stage.name}.block{block}"
    settings: list[tuple[tuple[str, Value], ...]] = [()]
    for name, values in stage.choices().items():
        settings = [(*setting, (name, value)) for setting in settings for value in values]
    edges = []
    for setting in settings:
        layer = Layer(position, stage.block, cin, width, stride, size, (*setting, ("activation", stage.activation)))
        taken = tuple((f"{position}.{name}", value) for name, value in setting)
        edges.append(Edge(target, layer_cost(layer), layer, taken))
    return edges
