"""NSGA-II by Optuna's ask-and-tell, over score (up) and MFLOPs (down)."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.space import Arch, SearchSpace

_REDRAWS = 40  # proposals of the sampler that may be old before a fresh one is drawn for it
_BATCHES, _AT_ONCE = 20, 500  # of uniform draws, before all counts as seen


class OptunaNSGA2:
    """A genome holds a value for every decision; the nearest feasible architecture is what it means.

    So no proposal is infeasible, and the sampler needs no penalties. A proposal that was evaluated
    before is told as failed, which keeps it out of the population, and the next is asked for.
    """

    def __init__(self, space: SearchSpace, budget: Budget, *, population: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.budget = space, budget
        self._failed = optuna.trial.TrialState.FAIL
        self._genes: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in space.decisions.items()
        }
        sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._rng = random.Random(seed)
        self._seen: set[Arch] = set()
        self._outstanding: dict[Arch, Any] = {}
        #: What the sampler shall propose first: the ends of the front, as far as the budget lets.
        self._planned = [space.nearest(dict(arch.choices), budget) for arch in reversed(space.extremes())]

    def ask(self) -> Arch | None:
        """A feasible architecture never asked for or told before; None when there are no more."""
        while self._planned:
            if (arch := self._planned.pop()) not in self._seen:
                return self._propose(arch)
        for _ in range(_REDRAWS):
            if (proposed := self._propose()) is not None:
                return proposed
        fresh = self._draw_fresh()
        return None if fresh is None else self._propose(fresh)

    def tell(self, arch: Arch, score: float, mflops: float) -> None:
        """Report an architecture; one that was not asked for enters the population as if it had been."""
        if arch not in self._outstanding:
            self._propose(arch)
        self._study.tell(self._outstanding.pop(arch), [score, mflops])

    def _propose(self, fixed: Arch | None = None) -> Arch | None:
        """What the sampler proposes, which is ``fixed`` if that is given; None if it is not new."""
        if fixed is not None:
            idle = {name: values[0] for name, values in self.space.decisions.items()}
            self._study.enqueue_trial(idle | dict(fixed.choices))
        trial = self._study.ask(self._genes)
        arch = self.space.nearest(trial.params, self.budget)
        if arch in self._seen:
            self._study.tell(trial, state=self._failed)
            return None
        self._seen.add(arch)
        self._outstanding[arch] = trial
        return arch

    def _draw_fresh(self) -> Arch | None:
        """A uniform draw from what has not been seen; None when 10,000 draws find nothing."""
        for _ in range(_BATCHES):
            seed, budget = self._rng.getrandbits(32), self.budget
            drawn = self.space.sample_many(_AT_ONCE, seed, max_mflops=budget.mflops, max_params_m=budget.params_m)
            first = np.sort(np.unique(drawn.rows, axis=0, return_index=True)[1])
            for number in first:
                if (arch := drawn[number]) not in self._seen:
                    return arch
        return None
