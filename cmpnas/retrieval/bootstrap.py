"""Intervals for means of per-query values."""

from __future__ import annotations

import numpy as np

from cmpnas.errors import DataError

_RESAMPLES = 2000
_FEW = 64  # distinct values: only how often each is drawn needs drawing
_EXACT_LIMIT = 20_000  # queries; the mean of more many-valued ones is normal to more digits than resampling shows
_NORMAL = 1.959963984540054


def interval(values: np.ndarray) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of ``values``, float ``(Q,)``.

    Deterministic: the resampling has a fixed seed, so equal values give equal intervals. Of more than 20,000 values
    that are not of a few kinds, as hits are, it is the normal interval.

    Raises:
        DataError: there are no values.
    """
    n = len(values)
    if not n:
        raise DataError("there is nothing to take a mean of; no query counts.")
    rng = np.random.default_rng(20_21)
    kinds, counts = np.unique(values, return_counts=True)
    if len(kinds) <= _FEW:
        means = rng.multinomial(n, counts / n, _RESAMPLES) @ kinds / n
    elif n > _EXACT_LIMIT:
        half = _NORMAL * values.std(ddof=1) / np.sqrt(n)
        return float(values.mean() - half), float(values.mean() + half)
    else:
        chunk = max(1, 4_000_000 // n)
        starts = range(0, _RESAMPLES, chunk)
        means = np.concatenate(
            [values[rng.integers(n, size=(min(chunk, _RESAMPLES - start), n))].mean(1) for start in starts]
        )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
