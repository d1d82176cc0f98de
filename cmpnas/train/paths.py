"""Which paths of the supernet learn in a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from cmpnas.cost.budget import Budget
from cmpnas.space import Arch, SearchSpace

#: ``uniform``: any architecture as likely as any other (single path one-shot, SPOS); ``cost``: log-uniform in
#: multiply-adds; ``sandwich``: the largest, the smallest and uniform ones between (slimmable networks, BigNAS).
Sampling = Literal["uniform", "cost", "sandwich"]


def paths_at(
    space: SearchSpace, budget: Budget, how: Sampling, *, steps: int, paths: int, seed: int
) -> Callable[[int], list[Arch]]:
    """The ``paths`` architectures of each step, all within ``budget``: what no pick may cost needs no training.

    The first of a ``sandwich`` is its largest. All are drawn at once, in milliseconds.

    Raises:
        BudgetError: nothing fits.
    """
    ends: list[Arch] = []
    if how == "sandwich":
        smallest, largest = space.extremes()
        ends = [space.nearest(dict(largest.choices), budget), space.nearest(dict(smallest.choices), budget)]
    free = paths - len(ends)
    drawn = space.sample_many(
        steps * free,
        seed,
        max_mflops=budget.mflops,
        max_params_m=budget.params_m,
        over="cost" if how == "cost" else "architectures",
    )
    return lambda step: ends + [drawn[number] for number in range(step * free, (step + 1) * free)]
