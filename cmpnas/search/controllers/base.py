"""What a controller is: it proposes architectures and learns what they scored. It sees no model."""

from __future__ import annotations

from typing import Protocol

from cmpnas.search.feasible import Feasible
from cmpnas.space import Arch


class Controller(Protocol):
    """Ask for architectures, tell their results.

    Every proposal is feasible, and none is one that was asked for or told before. Several may be outstanding:
    `ask` may be called again before the former proposal is told, and results may be told in any order. An
    architecture may be told that was never asked for (another worker's, or an earlier search's); one that is never
    told costs nothing but itself.

    What is proposed depends on the seed and on the sequence of asks and tells, nothing else. So a controller is
    restored by repeating that sequence, for which records alone suffice: with one architecture at a time, record
    ``n`` is asked for and told before ``n + 1`` is asked for; with ``w`` outstanding, an engine that tells in the
    order of numbers and asks for ``n`` when ``n - w`` has been told can repeat itself likewise.

    A controller may have a method ``independent() -> bool``: whether the next proposal does not depend on the results
    of those outstanding, as within a generation. As long as it does not, they are evaluated together.
    """

    def ask(self) -> Arch | None:
        """The next architecture to evaluate, or None when nothing new is left within the budget."""
        ...

    def tell(self, arch: Arch, score: float, cost: float) -> None:
        """What ``arch``, which fits the budget, scored; once for each architecture.

        Args:
            cost: what the search lowers: milliseconds where they are limited, else MFLOPs.
        """
        ...


class Maker(Protocol):
    """What makes a controller, as a class does.

    Args:
        feasible: what may be proposed.
        population: how large a generation is, to those that have any.
        seed: two that differ only in it propose differently, if they choose by chance.
    """

    __doc__: str | None

    def __call__(self, feasible: Feasible, *, population: int, seed: int) -> Controller: ...
