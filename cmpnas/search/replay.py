"""Run controllers on a table of evaluated architectures: searches in seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cmpnas.errors import CmpnasError, RunError
from cmpnas.search.controllers.base import Maker
from cmpnas.search.feasible import Table
from cmpnas.search.front import non_dominated
from cmpnas.search.hypervolume import Front, growth
from cmpnas.space import Arch, SearchSpace


@dataclass(frozen=True)
class Recording:
    """Evaluated architectures of one space, all different.

    Args:
        costs: float64 ``(N,)``, what the search lowered: MFLOPs, or milliseconds.
        scores: float64 ``(N,)``.

    Raises:
        RunError: no controller could be told from another, as the front has no area.
    """

    space: SearchSpace
    archs: Sequence[Arch]
    costs: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if len(non_dominated(self.scores, self.costs)) < 2 or not self.hypervolume > 0:
            raise RunError(
                f"of {len(self.archs)} records nothing between the cheapest and the dearest is on the front; there is "
                "no front to find."
            )

    @cached_property
    def table(self) -> Table:
        """What controllers choose from."""
        return Table(self.space, self.archs, self.costs.tolist())

    @property
    def floor(self) -> float:
        """The score of the cheapest on the front."""
        return float(self.scores[non_dominated(self.scores, self.costs)[0]])

    @property
    def span(self) -> tuple[float, float]:
        """Cheapest and dearest cost."""
        return float(self.costs.min()), float(self.costs.max())

    @cached_property
    def hypervolume(self) -> float:
        """That of all records, the most a controller can reach; see `Front`."""
        return Front(self.scores, self.costs, floor=self.floor, span=self.span).hypervolume

    def search(self, maker: Maker, trials: int, *, population: int, seed: int) -> Search:
        """Up to ``trials`` evaluations, looked up.

        Raises:
            CmpnasError: the controller cannot be made, or proposes nothing, anything else, or something twice.
        """
        rows = {arch: row for row, arch in enumerate(self.archs)}
        start = time.process_time()
        try:
            controller = maker(self.table, population=population, seed=seed)
        except TypeError as fault:
            raise CmpnasError(f"a controller cannot be made ({fault}); see docs/controllers.md.") from None
        asked: list[int] = []
        while len(asked) < trials and (arch := controller.ask()) is not None:
            if (row := rows.pop(arch, None)) is None:
                raise CmpnasError(f"a controller proposes {arch}, which is not recorded, or was proposed before.")
            asked.append(row)
            controller.tell(arch, float(self.scores[row]), float(self.costs[row]))
        if not asked:
            raise CmpnasError("a controller proposes nothing; it must until nothing is new.")
        seconds = time.process_time() - start
        return Search(np.array(asked), self.shares(np.array(asked), trials), seconds)

    def shares(self, asked: np.ndarray, trials: int) -> np.ndarray:
        """The share of `hypervolume` that rows ``asked`` have after 1, 2, ..., ``trials`` of them; then it stays."""
        areas = growth(self.scores[asked], self.costs[asked], floor=self.floor, span=self.span) / self.hypervolume
        return np.append(areas, np.full(trials - len(areas), areas[-1]))


@dataclass(frozen=True)
class Search:
    """One search on a `Recording`: rows in the order asked for, share of the hypervolume by evaluation, processor
    seconds of the controller."""

    asked: np.ndarray
    shares: np.ndarray
    seconds: float
