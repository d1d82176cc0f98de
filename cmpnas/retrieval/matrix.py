"""All (query, gallery) pairs of some encoders: which speak the same language?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.compare import Comparison, compare
from cmpnas.retrieval.evaluate import Scores, evaluate_retrieval

_CHANCE_DIM = 16  # of random embeddings: enough that no gallery item is a hub
_ALIGNED = 0.05  # share of the way from chance to the better encoder alone


@dataclass(frozen=True)
class Matrix:
    """``matrix["q", "g"]`` is M(q, g): queries encoded by q, the gallery by g.

    ``chance`` scores random embeddings on the same items.
    """

    metric: str
    scores: Mapping[tuple[str, str], Scores]
    chance: Scores

    def __getitem__(self, pair: tuple[str, str]) -> float:
        return self.scores[pair][self.metric]

    def interval(self, query: str, gallery: str) -> tuple[float, float]:
        """95% interval of M(query, gallery)."""
        return self.scores[query, gallery].interval(self.metric)

    def compatible(self, query: str, gallery: str) -> bool:
        """The rule of CMP-NAS and BCT: M(q, g) > M(q, q)."""
        return self[query, gallery] > self[query, query]

    def gain(self, query: str, gallery: str) -> Comparison:
        """M(q, g) against M(q, q), query by query."""
        return compare(self.scores[query, gallery], self.scores[query, query], self.metric)

    def paragon_gap(self, query: str, gallery: str) -> float:
        """M(g, g) - M(q, g): what the small query encoder costs in score."""
        return self[gallery, gallery] - self[query, gallery]

    def update_gain(self, query: str, gallery: str) -> float | None:
        """(M(q,g) - M(q,q)) / (M(g,g) - M(q,q)); None where the paragon is no better than M(q, q)."""
        room = self[gallery, gallery] - self[query, query]
        return (self[query, gallery] - self[query, query]) / room if room > 0 else None

    def aligned(self, query: str, gallery: str) -> bool:
        """Whether the pair is above chance: the interval of the difference to random embeddings lies above 0, and
        by more than 5% of what the better encoder on its own is above it (a preferred direction that two
        unrelated encoders share is no common language).
        """
        above = compare(self.scores[query, gallery], self.chance, self.metric)
        own = [self[pair] for pair in ((query, query), (gallery, gallery)) if pair in self.scores]
        room = max(own, default=1.0) - self.chance[self.metric]
        return above.interval[0] > 0 and above.difference > _ALIGNED * room

    def verdict(self, query: str, gallery: str) -> str:
        """In words: homogeneous, compatible, not compatible, a tie, or spaces not aligned."""
        if query == gallery:
            return "homogeneous"
        if not self.aligned(query, gallery):
            return "spaces not aligned"
        if (query, query) not in self.scores:
            return f"aligned; M({query}, {query}) is not known"
        if self.gain(query, gallery).tie:
            return "a tie with M(q, q)"
        return "compatible" if self.compatible(query, gallery) else "not compatible"


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

    def pair(a: np.ndarray, b: np.ndarray) -> Scores:
        return evaluate_retrieval(a, b, query_labels, gallery_labels, [metric], exclude)

    scores = {}
    for (q, a), (g, b) in product(queries.items(), galleries.items()):
        if np.shape(a)[-1] == np.shape(b)[-1]:
            try:
                scores[q, g] = pair(a, b)
            except DataError as fault:
                raise DataError(f"M({q}, {g}): {fault}") from None
    if not scores:
        raise DataError("no query encoder has the width of any gallery encoder; nothing can be paired.")
    rng = np.random.default_rng(0)
    n_query, n_gallery = len(query_labels), len(gallery_labels)
    chance = pair(*(rng.standard_normal((n, _CHANCE_DIM), np.float32) for n in (n_query, n_gallery)))
    return Matrix(metric, scores, chance)
