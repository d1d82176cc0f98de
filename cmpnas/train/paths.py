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

    The first of a ``sandwich`` is its largest: the space's own, or where that is too dear the dearest ever drawn.

    Raises:
        BudgetError: nothing fits.
    """
    free = paths - 2 if how == "sandwich" else paths
    drawn = space.sample_many(
        steps * free,
        seed,
        max_mflops=budget.mflops,
        max_params_m=budget.params_m,
        max_latency_ms=budget.latency_ms,
        over="cost" if how == "cost" else "architectures",
    )
    ends: list[Arch] = []
    if how == "sandwich":
        smallest, largest = space.extremes()
        fits = budget.allows(space.cost(largest))
        ends = [largest if fits else drawn[int(drawn.macs.argmax())], space.nearest(dict(smallest.choices), budget)]
    return lambda step: ends + [drawn[number] for number in range(step * free, (step + 1) * free)]
