"""Why no architecture meets a budget, and what the nearest is that can be met."""

from __future__ import annotations

from collections.abc import Callable

from cmpnas.cost.budget import Budget
from cmpnas.space.lattice import Lattice


def why_unreachable(lattice: Lattice, budget: Budget, example: Callable[[Budget], str]) -> str:
    """What no path fits, and the way out, as the end of a sentence.

    Args:
        budget: one that no path of ``lattice`` meets.
        example: the id of an architecture that meets a budget.
    """
    least = lattice.least[0]
    limits = budget.to_json()
    floors = {name: Budget(**{name: getattr(least, name)}) for name in limits}
    for name, limit in limits.items():
        if not lattice.reachable(alone := Budget(**{name: limit})):
            return (
                f"{alone}: the smallest reachable is {floors[name]} ({example(floors[name])}); "
                f"raise --budget-{name.replace('_', '-')}."
            )
    first, second = budget.limits
    near = lattice.frontier(first, second).nearest(*budget.limits.values())
    both = Budget(**{name: units / 1e6 for name, units in zip(limits, near, strict=True)})
    return (
        f"{budget}: each limit is reachable alone (from {', '.join(map(str, floors.values()))}), not both; "
        f"the nearest needs {both} ({example(both)}); raise one."
    )
