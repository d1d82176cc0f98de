"""Controllers by name or import path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cmpnas.cost.budget import Budget
from cmpnas.errors import CmpnasError, unknown
from cmpnas.resources import import_object
from cmpnas.search.controllers.base import Controller, Maker
from cmpnas.search.controllers.by_nni import NNITPE, NNIEvolution, NNIRandom, NNIRegularizedEvolution
from cmpnas.search.controllers.by_optuna import OptunaGP, OptunaNSGA2, OptunaNSGA3, OptunaRandom, OptunaTPE
from cmpnas.search.controllers.checked import Checked
from cmpnas.search.controllers.exhaustive import Exhaustive
from cmpnas.search.controllers.known import Known, read_known
from cmpnas.search.controllers.predictor import Predictor
from cmpnas.search.controllers.spos import SPOS
from cmpnas.search.feasible import Within
from cmpnas.space import SearchSpace

__all__ = ["CONTROLLERS", "Controller", "find_controller", "make_controller", "read_known"]

CONTROLLERS: dict[str, Maker] = {
    "predictor": Predictor,
    "optuna:nsga2": OptunaNSGA2,
    "optuna:nsga3": OptunaNSGA3,
    "optuna:tpe": OptunaTPE,
    "optuna:gp": OptunaGP,
    "optuna:random": OptunaRandom,
    "spos": SPOS,
    "exhaustive": Exhaustive,
    "nni:evolution": NNIEvolution,
    "nni:regularized-evolution": NNIRegularizedEvolution,
    "nni:tpe": NNITPE,
    "nni:random": NNIRandom,
}


def find_controller(name: str) -> Maker:
    """What makes the controller called ``name``, or named as ``package.module:Class``.

    Raises:
        CmpnasError: there is none of that name, or what the import path names is not a controller.
    """
    if name in CONTROLLERS:
        return CONTROLLERS[name]
    families = {known.partition(":")[0] for known in CONTROLLERS}
    if ":" not in name or name.partition(":")[0] in families:
        raise CmpnasError(unknown("controller", name, CONTROLLERS, "Or give package.module:Class."))
    found: Any = import_object(name, CmpnasError)
    if missing := [part for part in ("ask", "tell") if not callable(getattr(found, part, None))]:
        raise CmpnasError(f"{name} is no controller: it has no {missing[0]!r}; see docs/controllers.md.")
    return found


def make_controller(
    name: str, space: SearchSpace, budget: Budget, *, population: int, seed: int, known: Sequence[Any] = ()
) -> Controller:
    """The controller called ``name`` over the architectures of ``space`` within ``budget``.

    Args:
        known: architectures that it begins with (`read_known`).

    Raises:
        CmpnasError: there is none of that name, it cannot be used here, or what is known is not within the budget.
    """
    archs = read_known(known, space, budget)
    found = _make(name, space, budget, population, seed)
    return Known(archs, found) if archs else found


def _make(name: str, space: SearchSpace, budget: Budget, population: int, seed: int) -> Controller:
    within = Within(space, budget)
    if not space.decisions:
        return Exhaustive(within, population=population, seed=seed)  # one architecture, of which nothing can be learned
    maker = find_controller(name)
    if name in CONTROLLERS:
        return maker(within, population=population, seed=seed)
    try:
        return Checked(name, maker(within, population=population, seed=seed), within)
    except TypeError as fault:
        raise CmpnasError(f"{name} cannot be made ({fault}); see docs/controllers.md.") from None
