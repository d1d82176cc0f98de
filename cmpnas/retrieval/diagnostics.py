"""What a mean does not show: hubs, shared successes, and what rejecting would buy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.compare import must_count_alike
from cmpnas.retrieval.evaluate import Scores


@dataclass(frozen=True)
class Hubness:
    """How unevenly gallery items appear among the ``k`` nearest of all queries.

    Attributes:
        occurrences: int64 ``(N,)``, in how many queries' lists each gallery item is.
        skewness: third standardised moment of the occurrences (Radovanovic et al., JMLR 2010); 0 is even.
        orphans: share of the gallery that is in no list.
        top_percent: share of all places that the most frequent 1% of the gallery (at least one item) take.
    """

    occurrences: np.ndarray
    skewness: float
    orphans: float
    top_percent: float


def hubness(nearest: np.ndarray, n_gallery: int) -> Hubness:
    """Of lists of gallery rows, int ``(Q, k)``, as `GalleryIndex.search` gives them (-1 is no item).

    Raises:
        DataError: a row is outside the gallery, or there is none.
    """
    found = nearest[nearest != -1]
    if found.size == 0 or found.min() < 0 or found.max() >= n_gallery:
        raise DataError(f"lists of nearest items must name rows 0 to {n_gallery - 1}, at least one.")
    occurrences = np.bincount(found, minlength=n_gallery)
    deviation = occurrences - occurrences.mean()
    spread = np.sqrt((deviation**2).mean())
    top = np.sort(occurrences)[::-1][: max(1, n_gallery // 100)]
    return Hubness(
        occurrences,
        float((deviation**3).mean() / spread**3) if spread > 0 else 0.0,
        float((occurrences == 0).mean()),
        float(top.sum() / occurrences.sum()),
    )


def hit_overlap(first: Scores, second: Scores, metric: str = "hit@1") -> dict[str, float]:
    """Shares of queries that ``both``, ``only_first``, ``only_second`` and ``neither`` answer.

    Raises:
        DataError: different queries count in the two, or the metric is not 0 or 1 in each.
    """
    must_count_alike(first, second)
    one, two = first.per_query(metric), second.per_query(metric)
    if not np.isin((one, two), (0, 1)).all():
        raise DataError(f"{metric} is not hit or miss; give hit@k.")
    return {
        "both": float((one * two).mean()),
        "only_first": float((one * (1 - two)).mean()),
        "only_second": float(((1 - one) * two).mean()),
        "neither": float(((1 - one) * (1 - two)).mean()),
    }


@dataclass(frozen=True)
class RiskCoverage:
    """Mean loss of the most certain share of the items, for every share.

    Attributes:
        coverage: float64 ``(N,)``, 1/N to 1.
        risk: float64 ``(N,)``, mean loss of the items kept; items of equal uncertainty are kept as if in random
            order.
        area: mean of ``risk``, the area under the curve (AURC; smaller is better).
        excess: ``area`` minus that of the best possible order of the same losses (E-AURC).
    """

    coverage: np.ndarray
    risk: np.ndarray
    area: float
    excess: float


def risk_coverage(uncertainty: np.ndarray, loss: np.ndarray) -> RiskCoverage:
    """Curve of items ordered by rising ``uncertainty``, float ``(N,)``, with their ``loss``, float ``(N,)``.

    Geifman, Uziel and El-Yaniv, ICLR 2019.

    Raises:
        DataError: lengths differ, nothing is given, or a value is not finite.
    """
    uncertainty, loss = np.asarray(uncertainty, np.float64), np.asarray(loss, np.float64)
    if uncertainty.ndim != 1 or uncertainty.shape != loss.shape or not len(loss):
        raise DataError(f"uncertainty {uncertainty.shape} and loss {loss.shape} must be as long, and not empty.")
    if not (np.isfinite(uncertainty).all() and np.isfinite(loss).all()):
        raise DataError("uncertainty or loss holds NaN or infinity.")
    order = np.argsort(uncertainty, kind="stable")
    _, group, size = np.unique(uncertainty[order], return_inverse=True, return_counts=True)
    expected = (np.bincount(group, loss[order]) / size)[group]
    kept = np.arange(1, len(loss) + 1)
    risk = np.cumsum(expected) / kept
    best = float((np.cumsum(np.sort(loss)) / kept).mean())
    return RiskCoverage(kept / len(loss), risk, float(risk.mean()), float(risk.mean()) - best)
