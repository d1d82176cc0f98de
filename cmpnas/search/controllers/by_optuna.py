"""Optuna's samplers by ask-and-tell, over score (up) and MFLOPs (down)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from cmpnas.search.controllers.novelty import Novelty
from cmpnas.search.feasible import Feasible
from cmpnas.space import Arch


class OptunaController(ABC):
    """A genome holds a value for every decision; the nearest feasible architecture is what it means.

    So no proposal is infeasible, and the sampler needs no penalties. A proposal that is not new is told as failed,
    which keeps it out of what the sampler learns from, and the next is asked for.
    """

    redraws = 40  # proposals of the sampler that may be old before a fresh one is drawn for it

    def __init__(self, feasible: Feasible, *, population: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.feasible = feasible
        self._failed = optuna.trial.TrialState.FAIL
        self._genes: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(values) for name, values in feasible.decisions.items()
        }
        sampler = self.sampler(population, seed)
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._novelty = Novelty(feasible, seed)
        self._outstanding: dict[Arch, Any] = {}
        #: What the sampler shall propose first: the ends of the front.
        self._planned = list(reversed(feasible.ends()))

    @abstractmethod
    def sampler(self, population: int, seed: int) -> Any:
        """The sampler, an `optuna.samplers.BaseSampler`."""

    def ask(self) -> Arch | None:
        """A feasible architecture never asked for or told before; None when there are no more."""
        while self._planned:
            if (arch := self._planned.pop()) not in self._novelty:
                return self._propose(arch)
        for _ in range(self.redraws):
            if (proposed := self._propose()) is not None:
                return proposed
        fresh = self._novelty.draw()
        return None if fresh is None else self._propose(fresh)

    def tell(self, arch: Arch, score: float, cost: float) -> None:
        """Report an architecture; one that was not asked for enters the study as if it had been."""
        if arch not in self._outstanding:
            self._propose(arch)
        self._study.tell(self._outstanding.pop(arch), [score, cost])

    def _propose(self, fixed: Arch | None = None) -> Arch | None:
        """What the sampler proposes, which is ``fixed`` if that is given; None if it is not new."""
        if fixed is not None:
            idle = {name: values[0] for name, values in self.feasible.decisions.items()}
            self._study.enqueue_trial(idle | dict(fixed.choices))
        trial = self._study.ask(self._genes)
        arch = fixed or self.feasible.nearest(trial.params)
        if not self._novelty.add(arch):
            self._study.tell(trial, state=self._failed)
            return None
        self._outstanding[arch] = trial
        return arch


class _ByGeneration(OptunaController):
    """A sampler of generations, each bred from those before once ``population`` of the last are told."""

    def __init__(self, feasible: Feasible, *, population: int, seed: int) -> None:
        super().__init__(feasible, population=population, seed=seed)
        self._population, self._bred = population, 0

    def independent(self) -> bool:
        """Is there more of this generation, or of what is proposed before the first?"""
        return bool(self._planned) or self._bred < self._population

    def _propose(self, fixed: Arch | None = None) -> Arch | None:
        """As any; what is not ``fixed`` belongs to a generation, with which Optuna goes by what is told."""
        proposed = super()._propose(fixed)
        if fixed is None and proposed is not None:
            self._bred = self._bred % self._population + 1
        return proposed


class OptunaNSGA2(_ByGeneration):
    """NSGA-II by Optuna: evolution towards the front; needs some hundred evaluations"""

    def sampler(self, population: int, seed: int) -> Any:
        import optuna

        return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)


class OptunaNSGA3(_ByGeneration):
    """NSGA-III by Optuna: the same with reference directions"""

    def sampler(self, population: int, seed: int) -> Any:
        import optuna

        return optuna.samplers.NSGAIIISampler(population_size=population, seed=seed)


class OptunaTPE(OptunaController):
    """Multi-objective TPE by Optuna: densities of good and of other architectures"""

    def sampler(self, population: int, seed: int) -> Any:
        import optuna

        return optuna.samplers.TPESampler(multivariate=True, n_startup_trials=max(10, population // 2), seed=seed)


class OptunaGP(OptunaController):
    """Gaussian process by Optuna with expected hypervolume improvement; half a second and more a proposal"""

    redraws = 3  # each costs as much as the first, and from unchanged results it proposes much the same

    def sampler(self, population: int, seed: int) -> Any:
        import optuna

        return optuna.samplers.GPSampler(n_startup_trials=max(10, population // 2), seed=seed)


class OptunaRandom(OptunaController):
    """Every decision at random by Optuna, brought within the budget: the baseline to beat"""

    def independent(self) -> bool:
        """Always: no result changes what is drawn."""
        return True

    def sampler(self, population: int, seed: int) -> Any:
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)
