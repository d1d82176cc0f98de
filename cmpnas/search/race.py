"""Racing: what cannot enter the front by what a first part of the queries says is not evaluated to the end.

Any two architectures find much the same queries hard, so the interval of one's mean over a part says little about
whether it beats another. What finished architectures scored on the part and on all queries says more: a line through
these, and how far they are from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cmpnas.search.records import Record, finished
from cmpnas.space import Arch

_LEAST = 10  # finished architectures that a line is drawn through
_NORMAL = 1.959963984540054  # one-sided error .025


class Race:
    """Up to which score on the first part an architecture is stopped, by finished records alone.

    The score on all queries is predicted from that on the part by least squares; an architecture is to be stopped if
    the upper end of the 95% prediction interval is no more than what a finished one of no more cost scored. So of
    architectures that would just have entered the front, one in forty is stopped, of better ones fewer, as far as
    residuals are normal. That some are stopped does not bias the line: it is by what the line predicts from.

    Args:
        cost: what the search lowers.
    """

    def __init__(self, cost: Callable[[Arch], float]) -> None:
        self._cost = cost
        self._costs: list[float] = []
        self._scores: dict[str, list[tuple[float, float, float]]] = {}  # cost, on the part, on all
        self._lines: dict[str, _Line | None] = {}

    def add(self, records: Sequence[Record]) -> None:
        """Learn from records; those that were stopped say nothing."""
        for record in finished(records):
            for name, score in record.galleries.items():
                if score.first is not None:
                    known = self._scores.setdefault(name, [])
                    known.append((self._cost(record.arch), score.first, score.heterogeneous))
        self._lines = {}

    def marks(self, arch: Arch) -> dict[str, float]:
        """By gallery option, the score on the part up to which ``arch`` cannot enter that option's front.

        Options that nothing can be said of yet have none.
        """
        cost, found = self._cost(arch), {}
        for name, known in self._scores.items():
            bar = max((whole for other, _, whole in known if other <= cost), default=None)
            line = self._line(name)
            if bar is not None and line is not None:
                found[name] = line.mark(bar)
        return found

    def expected(self, gallery: str, first: float) -> float:
        """The score on all queries of an architecture that has ``first`` on the part."""
        line = self._line(gallery)
        return first if line is None else line.at(first)

    def _line(self, gallery: str) -> _Line | None:
        if gallery not in self._lines:
            known = np.array(self._scores.get(gallery, ())).reshape(-1, 3)
            self._lines[gallery] = _Line.through(known[:, 1], known[:, 2])
        return self._lines[gallery]


@dataclass(frozen=True)
class _Line:
    """Least squares with one regressor.

    Attributes:
        x, y: means.
        spread: squared distances from ``x``, summed.
        error: deviation of the residuals times the quantile of Student's t.
    """

    n: int
    x: float
    y: float
    slope: float
    spread: float
    error: float

    @staticmethod
    def through(x: np.ndarray, y: np.ndarray) -> _Line | None:
        """None if there are too few points, or a larger x does not surely mean a larger y."""
        if len(x) < _LEAST:
            return None
        from_x, from_y = x - x.mean(), y - y.mean()
        spread, free = float((from_x**2).sum()), len(x) - 2
        if spread == 0:
            return None
        slope = float((from_x * from_y).sum()) / spread
        deviation = float(np.sqrt(((from_y - slope * from_x) ** 2).sum() / free))
        line = _Line(len(x), float(x.mean()), float(y.mean()), slope, spread, deviation * _student(free))
        return line if slope > line.error / spread**0.5 else None

    def at(self, x: float) -> float:
        return self.y + self.slope * (x - self.x)

    def mark(self, y: float) -> float:
        """The x at which the upper end of the prediction interval, which rises with x, is ``y``.

        That is the smaller root of ``(y - slope x)^2 = error^2 (1 + 1/n + x^2 / spread)``, seen from the means.
        """
        above, leading = y - self.y, self.slope**2 - self.error**2 / self.spread
        reach = self.error * (above**2 / self.spread + leading * (1 + 1 / self.n)) ** 0.5
        return self.x + (self.slope * above - reach) / leading


def _student(free: int) -> float:
    """The .975 quantile of Student's t, by its expansion around the normal one (Abramowitz and Stegun 26.7.5)."""
    z = _NORMAL
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
