"""Intervals for means of per-query values."""

from __future__ import annotations

import numpy as np

_RESAMPLES = 2000
_EXACT_LIMIT = 20_000  # above it the mean is normal to far more digits than resampling shows


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values``, float ``(Q,)``.

    Deterministic: the resampling has a fixed seed, so that equal values give equal intervals, and
    two systems on the same queries are resampled alike.
    """
    n = len(values)
    if n > _EXACT_LIMIT:
        half = 1.959963984540054 * values.std(ddof=1) / np.sqrt(n)
        return float(values.mean() - half), float(values.mean() + half)
    rng = np.random.default_rng(20_21)
    chunk = max(1, 4_000_000 // n)
    means = np.concatenate(
        [
            values[rng.integers(n, size=(min(chunk, _RESAMPLES - start), n))].mean(1)
            for start in range(0, _RESAMPLES, chunk)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
