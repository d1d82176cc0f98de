"""The evolution that CMP-NAS searches with: SPOS's (Single Path One-Shot NAS, ECCV 2020, algorithm 1)."""

from __future__ import annotations

import numpy as np

from cmpnas.search.controllers.novelty import Novelty
from cmpnas.search.feasible import Feasible
from cmpnas.space import Arch

_MUTATES = 0.1  # probability that a decision of a mutant is drawn anew
_TRIES = 3  # children bred for each one wanted


class SPOS:
    """The paper's evolution: one score under the cap, no front; top fifth, mutation and crossover

    A generation is ``population`` architectures (the paper's 50, of 20 generations): half are crossovers of two of the
    best ``population / 5`` evaluated so far, half are mutants of one of them, and what cannot be bred anew is drawn
    at random. What breaks the cap becomes the nearest within it. The next generation is bred once this one is all
    asked for, from what was told by then.
    """

    def __init__(self, feasible: Feasible, *, population: int, seed: int) -> None:
        self.feasible, self.population = feasible, population
        self._rng = np.random.default_rng(seed)
        self._known = Novelty(feasible, seed)
        self._values = np.array([len(values) for values in feasible.decisions.values()])
        self._told: list[tuple[float, np.ndarray]] = []
        self._generation: list[Arch] = []

    def ask(self) -> Arch | None:
        """The next of this generation; None when nothing new is left."""
        if not self._generation:
            self._generation = self._breed()
        while self._generation:
            if self._known.add(arch := self._generation.pop(0)):
                return arch
        if (last := self._known.draw()) is not None:
            self._known.add(last)
        return last

    def independent(self) -> bool:
        """Is there more of this generation?"""
        return bool(self._generation)

    def tell(self, arch: Arch, score: float, cost: float) -> None:
        """Remember the score of ``arch``; its cost matters to the cap alone."""
        self._known.add(arch)
        self._told.append((score, self.feasible.genes(arch)))

    def _breed(self) -> list[Arch]:
        """The next generation; the first is random."""
        archs: list[Arch] = []
        if self._told:
            self._told = sorted(self._told, key=lambda told: -told[0])[: max(2, self.population // 5)]
            parents, half = np.array([genes for _, genes in self._told]), self.population // 2
            for children in (self._crossed, self._mutated):
                new = self._known.new(self.feasible.nearest_many(children(parents, _TRIES * half))).genes[:half]
                archs += [self.feasible.arch(genes) for genes in new]
        while len(archs) < self.population and (arch := self._known.draw()) is not None:
            archs.append(arch)
        return archs

    def _crossed(self, parents: np.ndarray, count: int) -> np.ndarray:
        """Children that have each gene of one of two parents."""
        mothers, fathers = parents[self._rng.integers(len(parents), size=(2, count))]
        return np.where(self._rng.random(mothers.shape) < 0.5, mothers, fathers)

    def _mutated(self, parents: np.ndarray, count: int) -> np.ndarray:
        """Copies of parents with some genes drawn anew."""
        copies = parents[self._rng.integers(len(parents), size=count)]
        anew = (self._rng.random(copies.shape) * self._values).astype(copies.dtype)
        return np.where(self._rng.random(copies.shape) < _MUTATES, anew, copies)
