"""All of a small space."""

from __future__ import annotations

import numpy as np

from cmpnas.errors import CmpnasError
from cmpnas.search.controllers.novelty import Novelty
from cmpnas.search.feasible import Feasible
from cmpnas.space import Arch

_MOST = 100_000


class Exhaustive:
    """Every architecture of a small space, shuffled, so that the first n are a fair sample

    Raises:
        CmpnasError: there are more than 100,000.
    """

    def __init__(self, feasible: Feasible, *, population: int, seed: int) -> None:
        everything = feasible.everything(_MOST)
        if everything is None:
            raise CmpnasError(
                f"controller 'exhaustive' is for at most {_MOST:,} architectures and the budget admits more; "
                "lower the budget, or take another controller (cmpnas ls controllers)."
            )
        self.feasible, self._genes = feasible, everything.genes
        self._left = np.random.default_rng(seed).permutation(len(self._genes)).tolist()
        self._known = Novelty(feasible, seed)

    def ask(self) -> Arch | None:
        """The next one; None after the last."""
        while self._left:
            arch = self.feasible.arch(self._genes[self._left.pop()])
            if self._known.add(arch):
                return arch
        return None

    def independent(self) -> bool:
        """Results never matter."""
        return True

    def tell(self, arch: Arch, score: float, cost: float) -> None:
        """Only that ``arch`` was evaluated matters."""
        self._known.add(arch)
