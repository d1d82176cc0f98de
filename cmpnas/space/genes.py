"""Architectures as rows of integers: for each decision, which of its values."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cmpnas.space.arch import Arch
from cmpnas.space.lattice import Lattice


class GeneTable:
    """Which genes each edge of a lattice sets.

    A gene is the position of a decision's value in its list, or -1 where an architecture does not meet the decision.

    Attributes:
        decisions: as of the lattice; their order is that of the genes.
        decision, value: int16 ``(edges + 1, most)``, in the numbering of `EdgeTable`: the decisions that an edge
            takes (``len(decisions)`` for none) and the positions of their values.
    """

    def __init__(self, lattice: Lattice) -> None:
        self.decisions = lattice.decisions
        self._column = {name: column for column, name in enumerate(self.decisions)}
        self._place = {
            name: {value: place for place, value in enumerate(values)} for name, values in self.decisions.items()
        }
        edges = [edge for leaving in lattice.edges for edge in leaving]
        most = max(1, max(len(edge.choices) for edge in edges))
        self.decision = np.full((len(edges) + 1, most), len(self.decisions), np.int16)
        self.value = np.full((len(edges) + 1, most), -1, np.int16)
        for number, edge in enumerate(edges):
            for place, (name, value) in enumerate(edge.choices):
                self.decision[number, place] = self._column[name]
                self.value[number, place] = self._place[name][value]

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Genes int16 ``(N, decisions)`` of paths as edges ``(N, steps)``."""
        genes = np.full((len(rows), len(self.decisions) + 1), -1, np.int16)
        every = np.arange(len(rows))
        for column in rows.T:
            for place in range(self.decision.shape[1]):
                genes[every, self.decision[column, place]] = self.value[column, place]
        return genes[:, :-1]

    def of_archs(self, archs: Iterable[Arch]) -> np.ndarray:
        """Genes int16 ``(N, decisions)`` of architectures."""
        return np.array(
            [self._of_arch(arch) for arch in archs] or np.zeros((0, len(self.decisions))), dtype=np.int16
        )  # fmt: skip

    def _of_arch(self, arch: Arch) -> list[int]:
        genes = [-1] * len(self.decisions)
        for name, value in arch.choices:
            genes[self._column[name]] = self._place[name][value]
        return genes
