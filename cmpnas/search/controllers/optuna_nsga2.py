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
        self._asked: Any = None
        for arch in space.extremes():  # the ends of the front, as far as the budget lets
            self._plan(space.nearest(dict(arch.choices), budget))

    def ask(self) -> Arch | None:
        """A feasible architecture never asked for before; None when there are no more."""
        for _ in range(_REDRAWS):
            if (arch := self._propose()) is not None:
                return arch
        if (fresh := self._draw_fresh()) is None:
            return None
        self._plan(fresh)
        return self._propose()

    def tell(self, arch: Arch, score: float, mflops: float) -> None:
        """Report the architecture asked for last."""
        self._study.tell(self._asked, [score, mflops])

    def _propose(self) -> Arch | None:
        """What the sampler proposes, if it is new."""
        trial = self._study.ask(self._genes)
        arch = self.space.nearest(trial.params, self.budget)
        if arch in self._seen:
            self._study.tell(trial, state=self._failed)
            return None
        self._seen.add(arch)
        self._asked = trial
        return arch

    def _plan(self, arch: Arch) -> None:
        """Have the sampler propose ``arch`` next."""
        idle = {name: values[0] for name, values in self.space.decisions.items()}
        self._study.enqueue_trial(idle | dict(arch.choices))

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
