"""What is found first, row by row."""

from __future__ import annotations

import numpy as np

from cmpnas.retrieval.cascade import candidates

_BLOCK = 2**22  # similarities at once
_MOST = 2**31  # similarities in all


def some_queries(n_queries: int, n_gallery: int) -> np.ndarray:
    """Rows of queries that make no more than two thousand million similarities: all, or a part, always the same."""
    drawn = np.random.default_rng(0).permutation(n_queries)
    return np.sort(drawn[: max(1, _MOST // max(1, n_gallery))])


def nearest(
    query: np.ndarray,
    gallery: np.ndarray,
    k: int,
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
    without: np.ndarray | None = None,
) -> np.ndarray:
    """Gallery rows of the ``k`` most similar to each query, best first; where there are fewer, -1.

    Args:
        query: unit embeddings ``(Q, D)``.
        gallery: unit embeddings ``(G, D)``; may be a memory map.
        exclude: sources ``(Q,)`` and ``(G,)``, as in `evaluate_retrieval`: a query does not find its own.
        without: gallery rows that nobody finds.

    Returns:
        int64 ``(Q, min(k, G))``.
    """
    k = min(k, len(gallery))
    found = np.empty((len(query), k), np.int64)
    step = max(1, _BLOCK // len(gallery))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        similarity = query[part] @ gallery.T
        if exclude is not None:
            own, others = exclude
            similarity[own[part, None] == others[None]] = -np.inf
        if without is not None:
            similarity[:, without] = -np.inf
        best, scores = candidates(similarity, k, similarity)
        found[part] = np.where(np.isneginf(scores), -1, best)
    return found
