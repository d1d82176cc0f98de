"""Two systems on the same queries: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.evaluate import Scores

_FLIPS = 10_000


@dataclass(frozen=True)
class Comparison:
    """First minus second, query by query: float64 ``(Q,)`` ``gained``."""

    gained: np.ndarray

    @property
    def difference(self) -> float:
        """Of the means."""
        return float(self.gained.mean())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of the difference; both systems are resampled alike."""
        return interval(self.gained)

    @cached_property
    def p_value(self) -> float:
        """Two-sided, of a difference as large if the systems were exchangeable in every query (random sign flips); at
        least 1 / 10,001."""
        return _sign_flip(self.gained)

    @property
    def wins(self) -> int:
        """Queries in which the first is better."""
        return int((self.gained > 0).sum())

    @property
    def losses(self) -> int:
        """Queries in which the first is worse."""
        return int((self.gained < 0).sum())

    @property
    def tie(self) -> bool:
        """The interval holds 0."""
        return self.interval[0] <= 0 <= self.interval[1]


def compare(first: Scores, second: Scores, metric: str) -> Comparison:
    """Paired comparison of two systems that answered the same queries.

    Raises:
        DataError: different queries count in the two.
    """
    must_count_alike(first, second)
    return Comparison(first.per_query(metric) - second.per_query(metric))


def must_count_alike(first: Scores, second: Scores) -> None:
    """Raise a `DataError` where two systems do not count the same queries."""
    if not np.array_equal(first.counted, second.counted):
        raise DataError("the systems do not count the same queries; score both on one set of queries and labels.")


def _sign_flip(gained: np.ndarray) -> float:
    """Share of random sign assignments with a mean at least as far from 0."""
    moved = gained[gained != 0]
    if not len(moved):
        return 1.0
    rng = np.random.default_rng(20_21)
    chunk = max(1, 4_000_000 // len(moved))
    reached = 0
    threshold = abs(moved.sum()) - 1e-12 * np.abs(moved).sum()  # sums that rounding alone parts are equal
    for start in range(0, _FLIPS, chunk):
        signs = rng.integers(0, 2, (min(chunk, _FLIPS - start), len(moved)), np.int8) * 2 - 1
        reached += int((np.abs(signs @ moved) >= threshold).sum())
    return (reached + 1) / (_FLIPS + 1)
