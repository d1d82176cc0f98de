"""All (query, gallery) pairs of some encoders: which speak the same language?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.evaluate import Scores, evaluate_retrieval


@dataclass(frozen=True)
class Matrix:
    """``matrix["q", "g"]`` is M(q, g): queries encoded by q, the gallery by g."""

    metric: str
    scores: Mapping[tuple[str, str], Scores]

    def __getitem__(self, pair: tuple[str, str]) -> float:
        return self.scores[pair][self.metric]

    def interval(self, query: str, gallery: str) -> tuple[float, float]:
        """95% interval of M(query, gallery)."""
        return self.scores[query, gallery].interval(self.metric)

    def compatible(self, query: str, gallery: str) -> bool:
        """The rule of CMP-NAS and BCT: M(q, g) > M(q, q)."""
        return self[query, gallery] > self[query, query]

    def paragon_gap(self, query: str, gallery: str) -> float:
        """M(g, g) - M(q, g): what the small query encoder costs in score."""
        return self[gallery, gallery] - self[query, gallery]

    def update_gain(self, query: str, gallery: str) -> float | None:
        """(M(q,g) - M(q,q)) / (M(g,g) - M(q,q)); None where the paragon is no better than M(q, q)."""
        room = self[gallery, gallery] - self[query, query]
        return (self[query, gallery] - self[query, query]) / room if room > 0 else None


def compatibility_matrix(
    *,
    queries: Mapping[str, np.ndarray],
    galleries: Mapping[str, np.ndarray],
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    metric: str = "map@r",
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
) -> Matrix:
    """Score every pair of encoders whose embeddings have equal width.

    Args:
        queries, galleries: by name, the query items' and the gallery items' embeddings.

    Raises:
        DataError: nothing can be paired, or embeddings and labels do not fit.
    """
    scores = {
        (q, g): evaluate_retrieval(a, b, query_labels, gallery_labels, [metric], exclude)
        for q, a in queries.items()
        for g, b in galleries.items()
        if np.shape(a)[-1] == np.shape(b)[-1]
    }
    if not scores:
        raise DataError("no query encoder has the width of any gallery encoder; nothing can be paired.")
    return Matrix(metric, scores)
