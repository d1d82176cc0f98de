"""How many candidates a cascade should look at again: read off measurements, not guessed.

Accuracy follows from both tables of scores on the search split, time from ``T(n, k) = text + n dot + base + k fine``
(all encoding; one similarity of vectors; what a call of the fine model costs whatever it scores; one fine score).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cmpnas.errors import CmpnasError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.cascade import some_rows
from cmpnas.retrieval.weighing import weigh

_DRAWS = 4  # of half a gallery


@dataclass(frozen=True)
class Times:
    """Milliseconds of one query: encoding it for the first stage (``text``), one similarity (``dot``), a call of the
    second stage with its own encoding (``base``), and one candidate in it (``fine``)."""

    text: float
    dot: float
    base: float
    fine: float

    def cascade(self, n: int, k: int) -> float:
        """Of a cascade of ``k`` candidates over ``n`` pictures."""
        return self.text + n * self.dot + self.base + k * self.fine

    def scan(self, n: int) -> float:
        """Of the fine model over all ``n`` pictures."""
        return self.base + n * self.fine

    @staticmethod
    def fit(text: float, search: tuple[int, float], cascades: Sequence[tuple[int, float]]) -> Times:
        """From measured times: of encoding, of a search among so many, and of whole cascades of so many candidates.

        Parts that run one after the other take longer than each alone, caches being what they are; so ``base`` is what
        cascades take beyond the others. The line through them minimises relative errors.
        """
        counts, spent = (np.array(column, float) for column in zip(*cascades, strict=True))
        design = np.stack([np.ones_like(counts), counts], 1) / spent[:, None]
        whole, slope = np.linalg.lstsq(design, np.ones_like(spent), rcond=None)[0]
        return Times(text, search[1] / search[0], max(float(whole) - text - search[1], 0.0), max(float(slope), 0.0))

    def to_json(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


def scan_hits(final: np.ndarray, relevant: np.ndarray, gone: np.ndarray | None = None) -> np.ndarray:
    """Which queries find a right picture first among all: bool ``(Q,)``, of scores and bool ``(Q, N)``; a picture that
    is not right wins a tie. Wrong pictures that are ``gone``, bool ``(N,)``, are left out."""
    hits = np.empty(len(final), bool)
    for some in some_rows(final):
        scores, right = final[some], relevant[some]
        out = right if gone is None else right | gone
        hits[some] = np.where(right, scores, -np.inf).max(1) > np.where(out, -np.inf, scores).max(1)
    return hits


@dataclass(frozen=True)
class Measured:
    """What is found first in a gallery of ``n`` pictures, and in one of half of the wrong things.

    Attributes:
        scan: ``(Q,)``, whether both scores over the whole gallery find a right picture first.
        scan_of_half: the same with the pictures of half of what is wrong, 0 to 1: means over draws.
        forgone: ``(K,)``, the share of these hits that cascades of 1 to K candidates are expected to miss.
        right: how many right pictures a query has, on average.
        weight: of the coarse score beside the fine one.
    """

    n: int
    scan: np.ndarray
    scan_of_half: np.ndarray
    forgone: np.ndarray
    right: float
    weight: float

    @staticmethod
    def of(coarse: np.ndarray, fine: np.ndarray, relevant: np.ndarray, things: np.ndarray, deepest: int) -> Measured:
        """From tables of scores ``(Q, N)`` and who is right, bool ``(Q, N)``. Draws always the same halves.

        Args:
            things: what each picture shows, ``(N,)``: pictures of a thing come and go together, as it is more things
                that make a gallery harder, not more pictures of the same.
        """
        odds, final, forgone = weigh(coarse, fine, relevant, deepest)
        rng, (names, shown) = np.random.default_rng(0), np.unique(things, return_inverse=True)
        gone = (rng.permutation(len(names))[shown] < len(names) // 2 for _ in range(_DRAWS))
        halves = np.mean([scan_hits(final, relevant, out) for out in gone], 0)
        right = float(relevant.sum(1).mean())
        return Measured(coarse.shape[1], scan_hits(final, relevant), halves, forgone.mean(0), right, odds.weight)

    def forgone_in(self, n: int) -> np.ndarray:
        """What 1, 2, ... candidates of ``n`` are expected to forgo, for as many as this can say something of.

        A candidate's rank among wrong pictures grows with their number: ``k`` of ``n`` are ``1 + (k - 1) (n' - 1) /
        (n - 1)`` of ``n'``, and between two whole numbers lies what is between theirs. Of rarer hits less is forgone.
        """
        growth = (n - 1) / (self.n - 1) if n > 1 and self.n > 1 else 1.0
        places = np.arange(min(n, 1 + math.floor((len(self.forgone) - 1) * growth + 1e-9))) / growth
        return self._kept(n) * np.interp(places, np.arange(len(self.forgone)), self.forgone)

    def found_in(self, n: int) -> tuple[float, tuple[float, float]]:
        """The share of hits of both scores over all of ``n`` pictures, and its 95% interval.

        It is rarer among more wrong pictures: each doubling costs as much, in log odds, as the last one did. The
        interval is of the queries measured, moved with the share; it knows nothing of errors of that law.
        """
        low, high = interval(self.scan.astype(float))
        return self._moved(self.scan.mean(), n), (self._moved(low, n), self._moved(high, n))

    def _kept(self, n: int) -> float:
        """The share of hits in a gallery of ``n`` over that in this one."""
        found = self.scan.mean()
        return self._moved(found, n) / found if found else 1.0

    def _moved(self, share: float, n: int) -> float:
        """A share of hits in this gallery, in one of ``n``; none and all have no odds and stay."""
        least = 0.5 / len(self.scan)
        before, after = (_log_odds(min(max(part.mean(), least), 1 - least)) for part in (self.scan_of_half, self.scan))
        cost = math.log2(n / self.n) * max(before - after, 0.0)
        return 1 / (1 + math.exp(cost - _log_odds(share))) if cost and 0 < share < 1 else float(share)


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


@dataclass(frozen=True)
class Plan:
    """A number of candidates for a gallery of ``n``, and what it should bring.

    Attributes:
        weight: of the coarse score beside the fine one.
        hit: expected share of queries whose first picture is right, and its 95% interval (`Measured.found_in`).
        scan_hit: the same of both scores over the whole gallery.
        milliseconds, scan_milliseconds: a query, by the cascade and by the fine model over the whole gallery.
        binding: what decided: ``accuracy``, ``latency``, ``mflops``, or ``nothing`` if no k reaches the accuracy.
    """

    k: int
    n: int
    weight: float
    hit: float
    interval: tuple[float, float]
    scan_hit: float
    milliseconds: float
    scan_milliseconds: float
    binding: str

    @property
    def speedup(self) -> float:
        """Of the cascade over the whole scan."""
        return self.scan_milliseconds / self.milliseconds

    def to_json(self) -> dict[str, Any]:
        """By name."""
        return asdict(self) | {"interval": list(self.interval), "speedup": self.speedup}


def plan(
    measured: Measured,
    times: Times,
    n: int,
    *,
    within: float,
    max_milliseconds: float | None = None,
    most: int | None = None,
    right: float | None = None,
) -> Plan:
    """The smallest number of candidates expected to come as close to the whole scan as wanted, in a limited time.

    Args:
        n: pictures of the gallery planned for.
        within: how far below the share of hits of both scores over all pictures is near enough, as 0.0025.
        max_milliseconds: a query may take.
        most: candidates that a query's budget of multiply-adds has room for.
        right: how many right pictures a query has in that gallery, on average; by default as many as where hits were
            measured. Twice the pictures of the same things are no harder.

    Raises:
        CmpnasError: not even one candidate is within a limit.
    """
    # A gallery as hard, in which a query has as many right pictures as where hits were measured.
    like = n if right is None else max(1, round(n * measured.right / right))
    forgone = measured.forgone_in(like)[:n]
    if len(forgone) == n:
        forgone[-1] = 0  # nobody is left out
    affordable, limit = len(forgone), "accuracy"
    if most is not None and most < affordable:
        affordable, limit = most, "mflops"
        if most < 1:
            raise CmpnasError(
                f"a query's MFLOPs are spent before one candidate of {n} is looked at; raise search.budget_mflops, "
                "or take a cheaper encoder."
            )
    if max_milliseconds is not None:
        in_time = math.floor((max_milliseconds - times.cascade(n, 0)) / max(times.fine, 1e-12))
        affordable, limit = min((affordable, limit), (in_time, "latency"))
        if in_time < 1:
            raise CmpnasError(
                f"a query takes {times.cascade(n, 1):.3g} ms with a single candidate of {n}; the limit is "
                f"{max_milliseconds:g} ms: raise it, or take a cheaper encoder."
            )
    aim, binding = max(within, forgone[-1]), "accuracy" if forgone[-1] <= within else "nothing"
    if forgone[affordable - 1] > aim:
        aim, binding = forgone[affordable - 1], limit
    k = int(np.argmax(forgone <= aim)) + 1  # the fewest of those as good
    scan_hit, ends = measured.found_in(like)
    hit, low, high = (max(share - float(forgone[k - 1]), 0.0) for share in (scan_hit, *ends))
    return Plan(k, n, measured.weight, hit, (low, high), scan_hit, times.cascade(n, k), times.scan(n), binding)
