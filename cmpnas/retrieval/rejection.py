"""What leaving doubtful gallery items out of an index does to the task that remains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.compare import Comparison
from cmpnas.retrieval.evaluate import evaluate_retrieval
from cmpnas.retrieval.nearest import some_queries
from cmpnas.retrieval.ranking import rank_relevant
from cmpnas.retrieval.relevance import NOBODY, Relevance
from cmpnas.retrieval.similarity import Cosine

_BLOCK = 2**22  # similarities at once
#: Shares of the gallery that stay, for curves and the areas below them; who keeps less than half keeps another gallery.
COVERAGES = np.linspace(0.5, 1, 51)


@dataclass(frozen=True)
class RejectionCurve:
    """Risk, 1 - hit@1 over the queries that have a relevant item left, at each of `COVERAGES`: float64 ``(51,)``.

    Attributes:
        risk: the most uncertain items are left out first.
        random: expected where items are left out by chance, each with the same probability.
        oracle: the order of one that knows all labels: first what has most to do with queries that fail, last what
            queries that succeed rest on. It does not look ahead, so a better one may be.
    """

    risk: np.ndarray
    random: np.ndarray
    oracle: np.ndarray

    @cached_property
    def areas(self) -> dict[str, float]:
        """Mean risk over the coverages: of this order, of chance, of the oracle."""
        return {name: float(getattr(self, name).mean()) for name in ("risk", "random", "oracle")}

    @property
    def share(self) -> float:
        """How far the area is from that of chance (0) to that of the oracle (1)."""
        areas = self.areas
        gained = areas["random"] - areas["oracle"]
        return (areas["random"] - areas["risk"]) / gained if gained > 1e-12 else float("nan")


def rejection_curve(
    query: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    uncertainty: np.ndarray,
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
) -> RejectionCurve:
    """Curves for rejecting the items of largest ``uncertainty``; each looks at every similarity once.

    Where there are more than two thousand million similarities, a part of the queries asks, the same every time.

    Args:
        query, gallery: embeddings ``(Q, D)`` and ``(N, D)``, compared by cosine.
        uncertainty: float ``(N,)``; of equal values the earlier row stays longer.
        exclude: sources, as in `evaluate_retrieval`.

    Raises:
        DataError: lengths do not fit, or no query has a relevant item.
    """
    asking = some_queries(len(query), len(gallery))
    query, query_labels = query[asking], np.asarray(query_labels)[asking]
    sources = None if exclude is None else (np.asarray(exclude[0])[asking], exclude[1])
    similarity = Cosine(query, gallery)
    relevance = Relevance.of_labels(query_labels, gallery_labels, sources, *similarity.shape)
    if np.shape(uncertainty) != (len(gallery),):
        raise DataError(f"{len(gallery)} gallery items but uncertainties of shape {np.shape(uncertainty)}.")
    order = np.argsort(uncertainty, kind="stable")
    oracle = np.argsort(_harm(similarity, relevance), kind="stable")
    return RejectionCurve(
        _risk(similarity, relevance, order), _random(similarity, relevance), _risk(similarity, relevance, oracle)
    )


def without(
    query: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    rejected: np.ndarray,
    metric: str = "hit@1",
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Comparison, float]:
    """A metric of the task that remains without the ``rejected`` rows, minus the same before, over the same queries.

    The queries are those that have a relevant item left.

    Returns:
        The comparison, and the metric of these queries before.

    Raises:
        DataError: no query has a relevant item left.
    """
    kept = np.delete(np.arange(len(gallery)), rejected)
    sources = None if exclude is None else (exclude[0], exclude[1][kept])
    before = evaluate_retrieval(query, gallery, query_labels, gallery_labels, [metric], exclude)
    if not np.isin(gallery_labels[kept], query_labels).any():
        raise DataError("no query has a relevant item left; reject fewer.")
    after = evaluate_retrieval(query, gallery[kept], query_labels, gallery_labels[kept], [metric], sources)
    known = before.per_query(metric)[after.counted[before.counted]]
    return Comparison(after.per_query(metric) - known), float(known.mean())


def _best(similarity: Cosine, relevance: Relevance) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of queries with their similarities to relevant items and to others, -inf elsewhere: ``(B, N)`` each."""
    n_query, n_gallery = similarity.shape
    for start in range(0, n_query, size := max(1, _BLOCK // n_gallery)):
        queries = np.arange(start, min(start + size, n_query))
        relevant, removed = relevance.padded(queries)
        others = similarity.block(queries, 0, n_gallery)
        own = np.full_like(others, -np.inf)
        row, column = np.nonzero(relevant != NOBODY)
        column = relevant[row, column]
        own[row, column], others[row, column] = others[row, column], -np.inf
        row, column = np.nonzero(removed != NOBODY)
        others[row, removed[row, column]] = -np.inf
        yield queries, own, others


def _risk(similarity: Cosine, relevance: Relevance, order: np.ndarray) -> np.ndarray:
    """Risk with the first of ``order`` alone, at every coverage: the best of a growing set is a running maximum."""
    n_gallery = len(order)
    stay = np.ceil(COVERAGES * n_gallery - 1e-9).astype(int) - 1
    hits, counted = np.zeros(len(stay)), np.zeros(len(stay))
    for _, own, others in _best(similarity, relevance):
        own, others = (np.maximum.accumulate(side[:, order], axis=1)[:, stay] for side in (own, others))
        hits += (own > others).sum(0)
        counted += (own > -np.inf).sum(0)
    return _one_minus(hits, counted)


def _random(similarity: Cosine, relevance: Relevance) -> np.ndarray:
    """Expected hits over expected queries that count, each item staying with the probability of the coverage.

    A relevant item of rank ``r`` comes first if it stays and the ``r - 1`` before it do not.
    """
    hits, counted = np.zeros(len(COVERAGES)), np.zeros(len(COVERAGES))
    for block in rank_relevant(similarity, relevance, None):
        known = np.arange(block.ranks.shape[1]) < block.counts[:, None]
        ahead = block.ranks[known].astype(np.float64) - 1
        for n, stays in enumerate(COVERAGES):  # one after the other: a block of ranks is large enough
            hits[n] += (stays * (1 - stays) ** ahead).sum()
            counted[n] += (1 - (1 - stays) ** block.counts).sum()
    return _one_minus(hits, counted)


def _harm(similarity: Cosine, relevance: Relevance) -> np.ndarray:
    """What each item has to do with queries that fail, less with those that succeed: float64 ``(N,)``.

    A query that fails blames the items before its best relevant one in equal shares; one that succeeds thanks the
    relevant items before its best other one.
    """
    harm = np.zeros(similarity.shape[1])
    for _, own, others in _best(similarity, relevance):
        best, rival = own.max(1, keepdims=True), others.max(1, keepdims=True)
        blamed = (others >= best) & (best > -np.inf)
        thanked = own > rival
        for sign, involved in ((1, blamed), (-1, thanked)):
            harm += sign * (involved / np.maximum(1, involved.sum(1, keepdims=True))).sum(0)
    return harm


def _one_minus(hits: np.ndarray, counted: np.ndarray) -> np.ndarray:
    if not counted.all():
        stays = COVERAGES[counted == 0].max()
        raise DataError(
            f"no query has a relevant item where {stays:.0%} of the gallery stay; check labels and sources."
        )
    return 1 - hits / counted
