"""Somebody else's controller, held to what every controller promises."""

from __future__ import annotations

from typing import Any

from cmpnas.errors import CmpnasError
from cmpnas.search.controllers.base import Controller
from cmpnas.search.feasible import Within
from cmpnas.space import Arch


class Checked:
    """A `Controller` whose proposals are new and within the budget, or a `CmpnasError` before one is evaluated."""

    def __init__(self, name: str, controller: Controller, within: Within) -> None:
        self._name, self._controller, self._within = name, controller, within
        self._asked: set[Arch] = set()

    def ask(self) -> Arch | None:
        """The next proposal.

        Raises:
            CmpnasError: it is no architecture of the space, exceeds the budget, or was made before.
        """
        arch = self._controller.ask()
        if arch is None:
            return None
        space, budget = self._within.space, self._within.budget
        if not isinstance(arch, Arch) or arch.space != space.name:
            raise CmpnasError(f"{self._name} proposes {arch!r}, which is no architecture of {space.name!r}.")
        if not budget.allows(space.cost(arch)):
            raise CmpnasError(f"{self._name} proposes {arch.id}, which exceeds the budget ({budget}); use feasible.")
        if arch in self._asked:
            raise CmpnasError(f"{self._name} proposes {arch.id} twice; give None where nothing is new.")
        self._asked.add(arch)
        return arch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)
