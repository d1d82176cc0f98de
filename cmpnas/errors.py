"""The user's mistakes. Each message says what came, what is allowed and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CmpnasError(ValueError):
    """Base of all errors that a user can mend; the command line exits with status 2."""


class SpaceError(CmpnasError):
    """A search space, or an architecture in it, is not well formed."""


class BudgetError(CmpnasError):
    """A budget is not a positive number, or no architecture can meet it."""


class LatencyError(CmpnasError):
    """A latency table is damaged, of another space, or lacks an operator; or nothing could be measured."""


class RecipeError(CmpnasError):
    """A recipe is not well formed; the message lists every problem found."""


class DataError(CmpnasError):
    """Data are missing, damaged or do not fit together."""


class RunError(CmpnasError):
    """A run folder or one of its artefacts cannot be used for what was asked."""


def unknown(what: str, name: object, allowed: Iterable[str], hint: str = "") -> str:
    """One line for a name that does not exist: what came, what is near, what there is."""
    options = sorted(allowed)
    near = [option for option in get_close_matches(str(name), options, n=1) if option != name]
    guess = f" Did you mean {near[0]!r}?" if near else ""
    tail = f" {hint}" if hint else ""
    return f"unknown {what} {name!r}.{guess} There are: {', '.join(options) or 'none'}.{tail}"
