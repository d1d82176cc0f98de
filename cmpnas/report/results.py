"""A finished search as pictures and pages read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cmpnas.errors import CmpnasError, RunError, unknown
from cmpnas.report.references import Point
from cmpnas.search.front import non_dominated
from cmpnas.search.records import Record

#: What a query may be said to cost: the key in records, and what an axis says.
COSTS = {
    "mflops": ("mflops", "query cost (MFLOPs an image: million multiply-adds; log scale)"),
    "params": ("params_m", "query network (million parameters; log scale)"),
    "latency": ("latency_ms", "query latency (ms an image; log scale)"),
    "amortised": ("amortised_mflops", "query cost and its share of indexing (MFLOPs a query; log scale)"),
}


@dataclass(frozen=True)
class Searched:
    """One search: what it found, what it evaluated, what was trained to the end since (on the search split)."""

    name: str
    front: dict[str, Any]
    records: Sequence[Record]
    trained: Sequence[Point] = ()

    @cached_property
    def galleries(self) -> list[str]:
        """Names of the gallery options that every record was scored against."""
        shared = set.intersection(*(set(record.galleries) for record in self.records)) if self.records else set()
        known = [option["name"] for option in self.front.get("galleries", ())] or list(self.records[0].galleries)
        return [name for name in known if name in shared]

    @property
    def own_cost(self) -> str:
        """The cost that the search lowered, one of `COSTS`."""
        return "latency" if "latency_ms" in self.front["budget"] else "mflops"

    @property
    def homogeneous(self) -> np.ndarray:
        """M(q, q) of every record: float64 ``(N,)``, NaN where the search left it out."""
        return np.array([record.homogeneous for record in self.records])

    def scores(self, gallery: str) -> tuple[np.ndarray, np.ndarray]:
        """M(q, g) of every record, float64 ``(N,)``, and its 95% intervals, ``(N, 2)``."""
        pairs = [record.galleries[gallery] for record in self.records]
        return (
            np.array([pair.heterogeneous for pair in pairs]),
            np.array([pair.interval for pair in pairs]).reshape(-1, 2),
        )

    def costs(self, cost: str, gallery: str) -> np.ndarray:
        """What a query of every record costs, float64 ``(N,)``; ``cost`` is one of `COSTS`.

        Raises:
            CmpnasError: there is no such cost, or the run does not hold it.
        """
        key, _ = cost_axis(cost)
        if cost == "amortised":
            return self.costs("mflops", gallery) + self._indexing(gallery)
        found = [record.to_json()["query"].get(key) for record in self.records]
        if None in found:
            raise RunError(f"run {self.name} has no {key} in record {found.index(None)}; plot --cost mflops.")
        return np.array(found, dtype=float)

    def _indexing(self, gallery: str) -> float:
        """Million multiply-adds of indexing a query's share of images, as the recipe has it."""
        known = {option["name"]: option["mflops"] for option in self.front.get("galleries", ())}
        if gallery not in known or "indexed_per_query" not in self.front:
            raise RunError(f"run {self.name} does not say what indexing costs; plot --cost mflops.")
        return float(self.front["indexed_per_query"] * known[gallery])

    def paragon_cost(self, cost: str) -> float | None:
        """What a query of the gallery model on both sides costs, where that is known."""
        paragon = self.front["paragon"]
        if cost == "amortised":
            return float(paragon["mflops"]) + self._indexing(paragon["gallery"])
        return paragon.get(cost_axis(cost)[0])

    def best(self, gallery: str, cost: str) -> np.ndarray:
        """Indices of the records that none beats against ``gallery``, cheapest first."""
        return non_dominated(self.scores(gallery)[0], self.costs(cost, gallery))


def cost_axis(cost: str) -> tuple[str, str]:
    """The key of a cost in records, and what its axis says.

    Raises:
        CmpnasError: there is no such cost.
    """
    if cost not in COSTS:
        raise CmpnasError(unknown("cost", cost, COSTS))
    return COSTS[cost]


def same_metric(runs: Sequence[Searched]) -> str:
    """The metric that all of ``runs`` are scored in.

    Raises:
        RunError: they are scored in several, or one of them has no record.
    """
    for run in runs:
        if not run.records:
            raise RunError(f"run {run.name} has no record; repeat its search.")
    metrics = {run.front["metric"]: run.name for run in runs}
    if len(metrics) > 1:
        (one, first), (other, second) = list(metrics.items())[:2]
        raise RunError(f"run {first} is scored in {one}, run {second} in {other}; draw runs of one metric together.")
    return next(iter(metrics))
