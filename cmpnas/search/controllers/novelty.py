"""What was asked for or told already, and what is new."""

from __future__ import annotations

import numpy as np

from cmpnas.search.feasible import Candidates, Feasible
from cmpnas.space import Arch

_SMALL = 10_000  # sets of up to so many are listed when draws find nothing new
_AT_ONCE, _BATCHES = 500, 20


class Novelty:
    """Remembers architectures, and draws ones that it does not know."""

    def __init__(self, feasible: Feasible, seed: int) -> None:
        self.feasible = feasible
        self._rng = np.random.default_rng([seed, 1])
        self._known: set[bytes] = set()
        self._stock: list[np.ndarray] = []

    def __contains__(self, arch: Arch) -> bool:
        return self.feasible.genes(arch).tobytes() in self._known

    def add(self, arch: Arch) -> bool:
        """Remember ``arch``; False if it was known."""
        before = len(self._known)
        self._known.add(self.feasible.genes(arch).tobytes())
        return len(self._known) > before

    def new(self, candidates: Candidates) -> Candidates:
        """Those that are not known, each once, in order."""
        keys: dict[bytes, int] = {}
        for row, genes in enumerate(candidates.genes):
            keys.setdefault(genes.tobytes(), row)
        rows = [row for key, row in keys.items() if key not in self._known]
        return Candidates(candidates.genes[rows], candidates.cost[rows])

    def draw(self) -> Arch | None:
        """A uniform draw from what is not known; None when nothing is left (or 10,000 draws of a large set say so)."""
        for _ in range(_BATCHES):
            while self._stock:
                if (genes := self._stock.pop()).tobytes() not in self._known:
                    return self.feasible.arch(genes)
            self._stock = list(self.feasible.draw(_AT_ONCE, int(self._rng.integers(2**63))).genes)
        return self._last_one()

    def _last_one(self) -> Arch | None:
        everything = self.feasible.everything(_SMALL)
        left = everything and self.new(everything).genes
        if left is None or not len(left):
            return None
        return self.feasible.arch(left[int(self._rng.integers(len(left)))])
