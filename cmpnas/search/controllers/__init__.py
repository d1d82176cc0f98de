"""Controllers by name."""

from __future__ import annotations

from cmpnas.cost.budget import Budget
from cmpnas.errors import CmpnasError, unknown
from cmpnas.search.controllers.base import Controller
from cmpnas.search.controllers.optuna_nsga2 import OptunaNSGA2
from cmpnas.space import SearchSpace

__all__ = ["CONTROLLERS", "Controller", "make_controller"]

CONTROLLERS = {"optuna:nsga2": OptunaNSGA2}


def make_controller(name: str, space: SearchSpace, budget: Budget, *, population: int, seed: int) -> Controller:
    """The controller called ``name``.

    Raises:
        CmpnasError: there is none of that name.
    """
    if name not in CONTROLLERS:
        raise CmpnasError(unknown("controller", name, CONTROLLERS))
    return CONTROLLERS[name](space, budget, population=population, seed=seed)
