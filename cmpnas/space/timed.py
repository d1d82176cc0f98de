"""A space whose architectures also cost time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cmpnas.cost.latency import LatencyTable
from cmpnas.errors import LatencyError
from cmpnas.space.blueprint import unit_of
from cmpnas.space.lattice import Edge, Lattice

if TYPE_CHECKING:
    from cmpnas.space.blueprint import Blueprint

#: The dearest architecture is so many of the smallest steps in which latency is counted: finer than any device is
#: repeatable, coarse enough that a space can be counted exactly.
_TICKS = 100_000


@dataclass(frozen=True)
class Timed:
    """``blueprint`` with the times of a latency table on its edges, where latency is one more exact, additive cost."""

    blueprint: Blueprint
    table: LatencyTable

    @property
    def name(self) -> str:
        return self.blueprint.name

    @property
    def size(self) -> int:
        return self.blueprint.size

    @property
    def embedding_dim(self) -> int:
        return self.blueprint.embedding_dim

    @property
    def unit(self) -> str:
        return unit_of(self.blueprint)

    def lattice(self, size: int, embedding_dim: int) -> Lattice:
        """The graph with nanoseconds; what every network takes is on the first edges.

        Raises:
            LatencyError: an operator is not in the table.
        """
        plain = self.blueprint.lattice(size, embedding_dim)
        longest = [0.0] * len(plain.edges)
        for node, edges in plain.backwards():
            longest[node] = max(self._ms(node, edge) + longest[edge.target] for edge in edges)
        tick = max(1, round(longest[0] * 1e6 / _TICKS))
        return Lattice([[self._timed(node, edge, tick) for edge in edges] for node, edges in enumerate(plain.edges)])

    def _ms(self, node: int, edge: Edge) -> float:
        own = 0.0 if edge.layer is None else self.table.ms(edge.layer.operator, edge.cost)
        return own + (self.table.correction.network_ms if node == 0 else 0.0)

    def _timed(self, node: int, edge: Edge, tick: int) -> Edge:
        ns = round(self._ms(node, edge) * 1e6 / tick) * tick
        return replace(edge, cost=replace(edge.cost, ns=ns))


def require_own(table: LatencyTable, identity: dict[str, Any]) -> None:
    """Check that ``table`` was measured on the space of this `SearchSpace.identity`, if it says on which.

    Raises:
        LatencyError: it was another.
    """
    if table.space is not None and table.space != identity:
        there, here = (", ".join(f"{key} {value}" for key, value in of.items()) for of in (table.space, identity))
        raise LatencyError(f"the latency table is of another space ({there}) than this ({here}); measure this one.")
