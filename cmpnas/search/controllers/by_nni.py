"""NNI's tuners in process, one for each of some caps on cost, which together yield a front."""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cmpnas.errors import CmpnasError
from cmpnas.search.controllers.novelty import Novelty
from cmpnas.search.feasible import Feasible
from cmpnas.space import Arch

_CAPS = 5
_REDRAWS = 40  # proposals of a tuner that may be old before a fresh one is drawn for it


class NNIController(ABC):
    """NNI has one objective. So tuners in turn raise the score, each under a cap of its own, evenly over log cost.

    What a tuner proposes is the nearest architecture within its cap. A proposal that was scored before is told that
    score at once. What was drawn for want of a new proposal, or told without being asked for, no tuner learns.

    Raises:
        CmpnasError: NNI is not installed.
    """

    def __init__(self, feasible: Feasible, *, population: int, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])
        low, high = feasible.nearest_many(np.array([feasible.genes(arch) for arch in feasible.ends()])).cost
        caps = np.geomspace(low, high, _CAPS + 1)[1:] if high > low else [low]
        self._capped = [feasible.capped(cap * (1 + 1e-9)) for cap in caps]
        require_nni()
        space = {name: {"_type": self.kind, "_value": list(values)} for name, values in feasible.decisions.items()}
        with self._chance():
            self._tuners = [self.tuner(space, population, seed * _CAPS + turn) for turn in range(len(caps))]
        self._known = Novelty(feasible, seed)
        self._scores: dict[Arch, float] = {}
        self._outstanding: dict[Arch, tuple[Any, int, Any]] = {}
        self._turn = self._proposed = 0

    #: What NNI calls a choice of one from a list.
    kind = "choice"

    @abstractmethod
    def tuner(self, space: dict[str, Any], population: int, seed: int) -> Any:
        """A tuner that knows ``space``, an `nni.tuner.Tuner`."""

    def value(self, proposed: Any) -> Any:
        """The value of a decision in what a tuner proposes."""
        return proposed.item() if isinstance(proposed, np.generic) else proposed

    def ask(self) -> Arch | None:
        """What the next tuner proposes; None when nothing new is left."""
        self._turn = (self._turn + 1) % len(self._tuners)
        tuner, capped = self._tuners[self._turn], self._capped[self._turn]
        with self._chance():
            for _ in range(_REDRAWS):
                if (proposed := self._generate(tuner)) is None:
                    break
                arch = capped.nearest({name: self.value(value) for name, value in proposed.items()})
                if self._known.add(arch):
                    self._outstanding[arch] = tuner, self._proposed, proposed
                    return arch
                self._report(tuner, self._proposed, proposed, self._scores.get(arch))
        if (fresh := self._known.draw()) is not None:
            self._known.add(fresh)
        return fresh

    def tell(self, arch: Arch, score: float, cost: float) -> None:
        """Report ``arch`` to the tuner that proposed it; its cost matters to the caps alone."""
        self._known.add(arch)
        self._scores[arch] = score
        if arch in self._outstanding:
            with self._chance():
                self._report(*self._outstanding.pop(arch), score)

    def _generate(self, tuner: Any) -> Any:
        import nni

        self._proposed += 1
        try:
            return tuner.generate_parameters(self._proposed)
        except nni.NoMoreTrialError:
            return None

    def _report(self, tuner: Any, number: int, proposed: Any, score: float | None) -> None:
        if score is not None:
            tuner.receive_trial_result(number, proposed, score)
        tuner.trial_end(number, score is not None)

    @contextmanager
    def _chance(self) -> Iterator[None]:
        """Seeds of our own for the tuners that use the generator of the whole process, which gets its state back."""
        state = random.getstate()
        random.seed(int(self._rng.integers(2**63)))
        try:
            yield
        finally:
            random.setstate(state)


class NNIEvolution(NNIController):
    """Evolution by NNI, single-objective: tuners in turn, each under a cap of its own"""

    def tuner(self, space: dict[str, Any], population: int, seed: int) -> Any:
        from nni.algorithms.hpo.evolution_tuner import EvolutionTuner

        tuner = EvolutionTuner(optimize_mode="maximize", population_size=population)
        tuner.send_trial_callback = lambda number, proposed: None  # asked for more than it has, it would call back
        tuner.update_search_space(space)
        tuner.random_state = np.random.RandomState(seed)  # takes no seed; its first population is of another
        tuner.population = []
        for _ in range(population):
            tuner._random_generate_individual()
        return tuner


class NNITPE(NNIController):
    """TPE by NNI, single-objective: tuners in turn, each under a cap of its own"""

    def tuner(self, space: dict[str, Any], population: int, seed: int) -> Any:
        from nni.algorithms.hpo.tpe_tuner import TpeTuner

        tuner = TpeTuner(optimize_mode="maximize", seed=seed)
        tuner.update_search_space(space)
        return tuner


class NNIRandom(NNIController):
    """Every decision at random by NNI, brought within caps in turn"""

    def tuner(self, space: dict[str, Any], population: int, seed: int) -> Any:
        from nni.algorithms.hpo.random_tuner import RandomTuner

        tuner = RandomTuner(seed=seed)
        tuner.update_search_space(space)
        return tuner


class NNIRegularizedEvolution(NNIController):
    """Regularized (aging) evolution by NNI, single-objective: tuners in turn, each under a cap of its own"""

    kind = "layer_choice"

    def tuner(self, space: dict[str, Any], population: int, seed: int) -> Any:
        from nni.algorithms.hpo.regularized_evolution_tuner import RegularizedEvolutionTuner

        tuner = RegularizedEvolutionTuner("maximize", population_size=population, sample_size=max(2, population // 4))
        tuner.update_search_space(space)
        return tuner

    def value(self, proposed: Any) -> Any:
        """The tuner wraps values."""
        return proposed["_value"]


def require_nni() -> None:
    """Check that NNI can be imported, and keep it quiet.

    Raises:
        CmpnasError: it cannot.
    """
    try:
        import nni  # noqa: F401
    except Exception as fault:  # what its own dependencies raise, too
        reason = f"{type(fault).__name__}: {fault}"
        raise CmpnasError(
            f"NNI cannot be imported ({reason}); run: pip install -c constraints.txt -e '.[nni]'"
        ) from None
    logging.getLogger("nni").setLevel(logging.WARNING)
