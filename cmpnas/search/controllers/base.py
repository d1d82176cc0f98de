"""What a controller is: it proposes architectures and learns what they scored. It sees no model."""

from __future__ import annotations

from typing import Protocol

from cmpnas.space import Arch


class Controller(Protocol):
    """Ask for an architecture, tell its result, in turn.

    Every proposal is feasible and new; proposals depend on the seed and on what was told, nothing
    else, so that a controller is restored by asking and telling a run's records once more.
    """

    def ask(self) -> Arch | None:
        """The next architecture to evaluate, or None when the feasible space is exhausted."""
        ...

    def tell(self, arch: Arch, score: float, mflops: float) -> None:
        """The result of the architecture asked for last."""
        ...
