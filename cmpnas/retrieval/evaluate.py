"""Exact retrieval scores, whatever the similarities come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.metrics import get_metric
from cmpnas.retrieval.ranking import Ties, rank_relevant
from cmpnas.retrieval.relevance import Relevance
from cmpnas.retrieval.similarity import Cosine, Given, Similarity

#: What a query without any relevant gallery item is: left out of the mean, or a zero in it.
Empty = Literal["exclude", "zero"]


@dataclass(frozen=True)
class Scores:
    """Scores of one ranking of a gallery by queries.

    ``scores["map@r"]`` is the mean over the queries that count.

    Attributes:
        counted: bool ``(Q,)``, the queries that count, in the order that they were given.
        tie_share: of the relevant items ranked, the share whose similarity equals that of one not relevant.
    """

    _values: dict[str, np.ndarray]
    counted: np.ndarray
    tie_share: float

    def __getitem__(self, metric: str) -> float:
        return float(self._values[metric].mean())

    @property
    def n_queries(self) -> int:
        """Queries that count."""
        return int(self.counted.sum())

    @property
    def n_excluded(self) -> int:
        """Queries left out, having no relevant gallery item."""
        return int((~self.counted).sum())

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names asked for."""
        return tuple(self._values)

    def per_query(self, metric: str) -> np.ndarray:
        """float64, one value for each query that counts."""
        return self._values[metric]

    def median_rank(self, reciprocal: str) -> float:
        """Median of the 1-based rank of the first relevant item, a half rounded down as in published tables.

        Args:
            reciprocal: a metric asked for that saw the whole gallery: ``mrr@N`` of N items.
        """
        return float(np.floor(np.median(np.rint(1 / self._values[reciprocal]) - 1)) + 1)

    def interval(self, metric: str) -> tuple[float, float]:
        """95% bootstrap interval of the mean over queries."""
        return self._intervals[metric]

    @cached_property
    def _intervals(self) -> dict[str, tuple[float, float]]:
        return {name: interval(values) for name, values in self._values.items()}


def evaluate_retrieval(
    query: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    metrics: Sequence[str] = ("hit@1", "map@r", "map_full"),
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    ties: Ties = "pessimistic",
    empty: Empty = "exclude",
) -> Scores:
    """Rank the gallery for every query by cosine and score the ranking.

    Memory beyond the embeddings does not grow with the gallery but for its labels and each query's relevant items.

    Args:
        query, gallery: embeddings ``(Q, D)`` and ``(N, D)``, arrays or memory maps, of any real type that numpy knows
            (compared as float32); normalised here.
        query_labels, gallery_labels: ``(Q,)`` and ``(N,)``, integers or text; equal means relevant.
        metrics: names, see `cmpnas.retrieval.metrics`.
        exclude: source ids of queries and of gallery items; a gallery item of the query's own source is
            taken out of its ranking.
        ties: of equal similarities, items that are not relevant come first (``pessimistic``), or gallery
            order decides (``stable``).
        empty: whether a query without relevant items is left out of the mean or a zero in it.

    Raises:
        DataError: shapes, lengths or values do not fit, or no query has a relevant item.
    """
    similarity = Cosine(query, gallery)
    relevance = Relevance.of_labels(query_labels, gallery_labels, exclude, *similarity.shape)
    return score(similarity, relevance, metrics, ties=ties, empty=empty)


def evaluate_scores(
    scores: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    metrics: Sequence[str] = ("hit@1", "map@r", "map_full"),
    exclude: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    ties: Ties = "pessimistic",
    empty: Empty = "exclude",
) -> Scores:
    """`evaluate_retrieval` of a table of similarities ``(Q, N)`` that something else computed.

    Any real type, larger is more similar; a memory map is read in blocks.

    Raises:
        DataError: shapes, lengths or values do not fit, or no query has a relevant item.
    """
    similarity = Given(scores)
    relevance = Relevance.of_labels(query_labels, gallery_labels, exclude, *similarity.shape)
    return score(similarity, relevance, metrics, ties=ties, empty=empty)


def score(
    similarity: Similarity,
    relevance: Relevance,
    metrics: Sequence[str],
    *,
    ties: Ties = "pessimistic",
    empty: Empty = "exclude",
) -> Scores:
    """Scores of any similarities against any ground truth; see `evaluate_retrieval`.

    Raises:
        DataError: no query has a relevant gallery item, or the ground truth is of another number of items.
    """
    if similarity.shape != relevance.shape:
        raise DataError(
            "{} queries and {} gallery items are scored; the ground truth is of {} and {}.".format(
                *similarity.shape, *relevance.shape
            )
        )
    for value, allowed in ((ties, get_args(Ties)), (empty, get_args(Empty))):
        if value not in allowed:
            raise DataError(f"{value!r} is none of {', '.join(allowed)}.")
    chosen = [get_metric(name) for name in metrics]
    depths = [metric.depth for metric in chosen]
    depth = None if None in depths else max(depths, default=1)  # type: ignore[type-var]
    n_queries = similarity.shape[0]
    values = {metric.name: np.zeros(n_queries) for metric in chosen}
    found = np.zeros(n_queries, bool)
    ranked = tied = 0
    for block in rank_relevant(similarity, relevance, depth, ties):
        some = block.counts > 0
        queries, ranks, counts = block.queries[some], block.ranks[some], block.counts[some]
        if not len(queries):
            continue
        found[queries] = True
        ranked, tied = ranked + int(np.minimum(counts, ranks.shape[1]).sum()), tied + int(block.tied.sum())
        for metric in chosen:
            values[metric.name][queries] = metric.score(ranks, counts)
    if not found.any():
        raise DataError("no query has a relevant gallery item; check labels and sources.")
    counted = np.ones(n_queries, bool) if empty == "zero" else found
    return Scores({name: column[counted] for name, column in values.items()}, counted, tied / ranked)
