"""Many architectures of one space at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.space.arch import Arch
from cmpnas.space.table import EdgeTable


@dataclass(frozen=True)
class Archs:
    """Architectures as rows of edges, int32 ``(N, steps)``: a sequence of `Arch` with costs as arrays.

    Equal rows are equal architectures. Made by `SearchSpace.sample_many` and `SearchSpace.batch`.
    """

    rows: np.ndarray
    _table: EdgeTable
    _decode: Callable[[np.ndarray], Arch]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Arch:
        return self._decode(self.rows[index])

    def within(self, budget: Budget) -> np.ndarray:
        """Which of them fit: bool ``(N,)``."""
        return self._table.within(budget.limits, self.rows)

    @property
    def macs(self) -> np.ndarray:
        """Multiply-adds, exact: int64 ``(N,)``."""
        return self._table.total(self._table.macs, self.rows)

    @property
    def params(self) -> np.ndarray:
        """Parameters, exact: int64 ``(N,)``."""
        return self._table.total(self._table.params, self.rows)

    @property
    def ns(self) -> np.ndarray | None:
        """Nanoseconds by the latency table, int64 ``(N,)``; None where there is none."""
        return None if self._table.ns is None else self._table.total(self._table.ns, self.rows)

    @property
    def peak(self) -> np.ndarray:
        """Peak activation scalars, exact: int64 ``(N,)``."""
        peak = self._table.peak[self.rows[:, 0]]
        for column in self.rows.T[1:]:
            np.maximum(peak, self._table.peak[column], out=peak)
        return peak
