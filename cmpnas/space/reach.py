"""What to tell somebody whose budget no architecture meets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmpnas.cost.budget import Budget
from cmpnas.errors import BudgetError

if TYPE_CHECKING:
    from cmpnas.space.space import SearchSpace


def unreachable(space: SearchSpace, budget: Budget) -> BudgetError:
    """The error for a ``budget`` that is not reachable: names the nearest one that is, and who meets it."""
    least, limits = space.lattice.least[0], budget.to_json()
    floors = {name: Budget(**{name: getattr(least, name)}) for name in limits}
    for name, limit in limits.items():
        if not space.lattice.reachable(alone := Budget(**{name: limit})):
            return BudgetError(
                f"no architecture of space {space.name!r} at {space.size} {space.unit} fits {alone}: the smallest "
                f"reachable is {floors[name]} ({space.nearest({}, floors[name]).id}); raise "
                f"--budget-{name.replace('_', '-')}."
            )
    first, second = budget.limits
    near = space.lattice.frontier(first, second).nearest(*budget.limits.values())
    both = Budget(**{name: units / 1e6 for name, units in zip(limits, near, strict=True)})
    return BudgetError(
        f"no architecture of space {space.name!r} at {space.size} {space.unit} fits {budget}: each limit is reachable "
        f"alone (from {', '.join(map(str, floors.values()))}), not both; the nearest needs {both} "
        f"({space.nearest({}, both).id}); raise one."
    )
