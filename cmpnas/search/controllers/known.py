"""Architectures that somebody found before, evaluated first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cmpnas.cost.budget import Budget
from cmpnas.errors import CmpnasError
from cmpnas.search.controllers.base import Controller
from cmpnas.space import Arch, SearchSpace


def read_known(content: Sequence[Any], space: SearchSpace, budget: Budget) -> list[Arch]:
    """The architectures of ``content``, each as `Arch.to_json` writes it.

    Raises:
        CmpnasError: one is none of ``space``, exceeds the budget, or is there twice.
    """
    archs: list[Arch] = []
    for place, each in enumerate(content):
        try:
            arch = space.from_json(each)
        except CmpnasError as fault:
            raise type(fault)(f"search.known, {place}: {fault}") from None
        if not budget.allows(cost := space.cost(arch)):
            raise CmpnasError(
                f"search.known, {place}: {arch.id} ({cost.mflops:.4g} MFLOPs) exceeds the budget ({budget}); "
                "raise the budget or leave it out."
            )
        if arch in archs:
            raise CmpnasError(f"search.known, {place}: {arch.id} is there twice; leave one out.")
        archs.append(arch)
    return archs


class Known:
    """A `Controller` that asks for ``archs`` and then for what ``controller`` proposes, which is told of all."""

    def __init__(self, archs: Sequence[Arch], controller: Controller) -> None:
        self._archs, self._controller = set(archs), controller
        self._left = list(archs)

    def ask(self) -> Arch | None:
        """The next known one, or a proposal."""
        if self._left:
            return self._left.pop(0)
        arch = self._controller.ask()
        while arch in self._archs:  # proposed before it was told of them
            arch = self._controller.ask()
        return arch

    def tell(self, arch: Arch, score: float, cost: float) -> None:
        """Pass it on."""
        self._controller.tell(arch, score, cost)

    @property
    def independent(self) -> Callable[[], bool]:
        """As the controller has it, if it does; no known architecture depends on a result.

        Raises:
            AttributeError: it does not.
        """
        inner: Callable[[], bool] = self._controller.independent  # type: ignore[attr-defined]
        return lambda: bool(self._left) or inner()
