"""What a space of the user's own has to be."""

from __future__ import annotations

from typing import Protocol

from cmpnas.space.lattice import Lattice


class Blueprint(Protocol):
    """All that a space of the user's own has to be: a name, two defaults, and its graph.

    What its size is counted in may be said by an attribute ``unit``; ``px`` unless it is.

    `cmpnas.testing.check_space` says whether the graph keeps the promises that the rest relies on.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """Side of the square input in pixels, unless another is asked for."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding, unless another is asked for."""
        ...

    def lattice(self, size: int, embedding_dim: int) -> Lattice:
        """The graph of partial networks at one input size and embedding width."""
        ...


def unit_of(blueprint: Blueprint) -> str:
    """What the size of a space is counted in: ``px`` of pictures, unless it says so itself."""
    return getattr(blueprint, "unit", "px")
