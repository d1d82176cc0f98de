"""How far two orders of the same architectures agree, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 4000


@dataclass(frozen=True)
class Estimate:
    """A statistic of the sample with its 95% percentile bootstrap interval; NaN where an order is all ties."""

    value: float
    interval: tuple[float, float]

    @staticmethod
    def of(values: np.ndarray) -> Estimate:
        """From one value for each row of `resampled`: the sample's own first."""
        drawn = values[1:][~np.isnan(values[1:])]
        low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
        return Estimate(float(values[0]), (float(low), float(high)))

    def to_json(self) -> dict[str, Any]:
        """``{"value": v, "interval": [low, high]}``, or null in place of either that is not defined."""
        low, high = self.interval
        return {
            "value": None if np.isnan(self.value) else self.value,
            "interval": None if np.isnan(low) else [low, high],
        }


def resampled(n: int) -> np.ndarray:
    """How often each of ``n`` architectures is in a sample: float64 ``(1 + RESAMPLES, n)``.

    The first row is the sample itself, each once; the others are bootstrap resamples of it, always the same ones.
    """
    drawn = np.random.default_rng(20_21).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return np.concatenate([np.ones((1, n)), drawn])


def kendall(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of two scores, in each of many samples.

    Concordant less discordant pairs, over the geometric mean of the pairs that each score tells apart. A repeated
    architecture is tied with itself in both.

    Args:
        first, second: float ``(N,)``.
        counts: ``(B, N)``, how often each is in a sample.

    Returns:
        float64 ``(B,)``, NaN where all of a sample are tied in one score.
    """
    a, b = _signs(first), _signs(second)
    agreeing, told_first, told_second = ((counts @ pairs * counts).sum(1) for pairs in (a * b, a * a, b * b))
    return _ratio(agreeing, np.sqrt(told_first * told_second))


def spearman(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman's rho, the correlation of ranks, with mean ranks for ties; arguments and result as in `kendall`."""
    x, y = (counts @ _signs(values).T for values in (first, second))  # twice the ranks, less their mean
    products, x_squares, y_squares = ((counts * product).sum(1) for product in (x * y, x * x, y * y))
    return _ratio(products, np.sqrt(x_squares * y_squares))


def certificate(supernet: np.ndarray, alone: np.ndarray, mflops: np.ndarray) -> dict[str, Any]:
    """How well a supernet orders architectures, beside counting their multiply-adds.

    Args:
        supernet, alone, mflops: float ``(N,)``: score with the supernet's weights, score when trained alone, cost.

    Returns:
        ``n``, ``resamples``, and estimates: ``kendall`` and ``spearman`` of the supernet's order with that of training
        alone; the same of the order by ``cost``; ``partial``, Kendall's tau with cost held fixed; ``gain``, the
        supernet's tau less that of cost, over the same resamples; ``top_half``, among those at or above the
        median alone.
    """
    counts = resampled(len(alone))
    tau, by_cost, mutual = (kendall(*pair, counts) for pair in ((supernet, alone), (mflops, alone), (supernet, mflops)))
    best = alone >= np.median(alone)
    few = resampled(int(best.sum()))
    left = np.sqrt(np.maximum(0, 1 - by_cost**2) * np.maximum(0, 1 - mutual**2))
    return {
        "n": len(alone),
        "resamples": RESAMPLES,
        "kendall": Estimate.of(tau).to_json(),
        "spearman": Estimate.of(spearman(supernet, alone, counts)).to_json(),
        "cost": {
            "kendall": Estimate.of(by_cost).to_json(),
            "spearman": Estimate.of(spearman(mflops, alone, counts)).to_json(),
        },
        "partial": Estimate.of(_ratio(tau - by_cost * mutual, left)).to_json(),
        "gain": Estimate.of(tau - by_cost).to_json(),
        "top_half": {
            "n": int(best.sum()),
            "kendall": Estimate.of(kendall(supernet[best], alone[best], few)).to_json(),
            "spearman": Estimate.of(spearman(supernet[best], alone[best], few)).to_json(),
        },
    }


def _signs(values: np.ndarray) -> np.ndarray:
    """1 where the row's value is greater than the column's, -1 where less: float64 ``(N, N)``."""
    return np.sign(values[:, None] - values[None, :]).astype(float)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
