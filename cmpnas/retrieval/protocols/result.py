"""One line of a benchmark's table, and how scores become such lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cmpnas.retrieval.evaluate import Scores


@dataclass(frozen=True)
class Result:
    """A named number.

    Attributes:
        part: which part of the benchmark (``hard``, ``G1``, ``text to image``).
        interval: 95% bootstrap interval over queries, None where a number is not a mean over queries.
        queries, excluded: how many count, and how many had nothing to find.
        tie_share: see `Scores`; None where ranks are not what counts.
    """

    part: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    queries: int
    excluded: int = 0
    tie_share: float | None = None


def results(part: str, scores: Scores, metrics: Sequence[str]) -> list[Result]:
    """Each metric of ``scores`` as a line."""
    counts = scores.n_queries, scores.n_excluded, scores.tie_share
    return [Result(part, name, scores[name], scores.interval(name), *counts) for name in metrics]
