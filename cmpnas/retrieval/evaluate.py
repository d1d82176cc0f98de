"""Exact retrieval scores in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from cmpnas.errors import DataError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.metrics import get_metric

_BLOCK_BYTES = 64 * 2**20  # of one block of similarities
_NEVER = 2**62  # the rank of padding


@dataclass(frozen=True)
class Scores:
    """Scores of one (query, gallery) pair of embeddings.

    ``scores["map@r"]`` is the mean over the queries that count; ``n_excluded`` queries had no relevant
    gallery item and do not.
    """

    _values: dict[str, np.ndarray]
    n_queries: int
    n_excluded: int

    def __getitem__(self, metric: str) -> float:
        return float(self._values[metric].mean())

    def per_query(self, metric: str) -> np.ndarray:
        """float64, one value for each query that counts."""
        return self._values[metric]

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
) -> Scores:
    """Rank the gallery for every query by cosine and score the ranking.

    Args:
        query, gallery: embeddings ``(Q, D)`` and ``(N, D)``, any float; normalised here.
        query_labels, gallery_labels: ``(Q,)`` and ``(N,)``, integers or strings; equal means relevant.
        metrics: names, see `cmpnas.retrieval.metrics`.
        exclude: source ids of queries and of gallery items; a gallery item of the query's own
            source is taken out of its ranking.

    Ties are pessimistic: of equal similarities, items that are not relevant come first.

    Raises:
        DataError: shapes, lengths or values do not fit.
    """
    chosen = [get_metric(name) for name in metrics]
    query, gallery = unit_rows(query, "query"), unit_rows(gallery, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise DataError(
            f"query embeddings have {query.shape[1]} dimensions, gallery embeddings {gallery.shape[1]}; "
            "a pair must share one space."
        )
    q_label, g_label = _same_codes(query_labels, gallery_labels, len(query), len(gallery), "labels")
    q_source = g_source = None
    if exclude is not None:
        q_source, g_source = _same_codes(*exclude, len(query), len(gallery), "sources")

    rows = max(1, _BLOCK_BYTES // (4 * len(gallery)))
    blocks: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(query), rows):
        part = slice(start, start + rows)
        similarity = (torch.from_numpy(query[part]) @ torch.from_numpy(gallery).T).numpy()
        relevant = q_label[part, None] == g_label[None]
        if q_source is not None and g_source is not None:
            own = q_source[part, None] == g_source[None]
            relevant &= ~own
            similarity[own] = -np.inf
        blocks.append(_relevant_ranks(similarity, relevant))

    counts = np.concatenate([count for _, count in blocks])
    counted = counts > 0
    if not counted.any():
        raise DataError("no query has a relevant gallery item; check labels and sources.")
    values = {
        metric.name: np.concatenate(
            [metric.score(ranks[count > 0], count[count > 0]) for ranks, count in blocks if (count > 0).any()]
        )
        for metric in chosen
    }
    return Scores(values, int(counted.sum()), int((~counted).sum()))


def _relevant_ranks(similarity: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending 1-based ranks of each row's relevant items, padded, and how many there are.

    Nothing is sorted but the relevant: each of the others only has to find its place among them.
    """
    counts = relevant.sum(1)
    width = max(1, int(counts.max()))
    row, place = np.nonzero(relevant)
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    mine = np.full((len(similarity), width), np.inf, np.float32)
    mine[row, column] = similarity[row, place]
    mine.sort(1)  # ascending: the worst first, padding last
    others = np.where(relevant, -np.inf, similarity)
    beaten = torch.searchsorted(torch.from_numpy(mine), torch.from_numpy(others), right=True).numpy()
    beaten += np.arange(len(mine))[:, None] * (width + 1)
    tally = np.bincount(beaten.ravel(), minlength=len(mine) * (width + 1)).reshape(len(mine), width + 1)
    ahead = tally[:, :0:-1].cumsum(1)  # others at least as similar as the best, the second best, ... of the padded
    shift = np.arange(width)[None] + (width - counts)[:, None]
    ranks = np.take_along_axis(ahead, np.minimum(shift, width - 1), 1) + np.arange(1, width + 1)
    return np.where(np.arange(width) < counts[:, None], ranks, _NEVER), counts


def unit_rows(embeddings: np.ndarray, name: str) -> np.ndarray:
    """Rows scaled to unit length, float32 and contiguous.

    Raises:
        DataError: not a non-empty matrix, or a row is not finite or all zero.
    """
    try:
        matrix = np.ascontiguousarray(embeddings, np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{name} embeddings are {np.asarray(embeddings).dtype}, not numbers.") from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"{name} embeddings of shape {matrix.shape} are not a matrix of one row an item.")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(1))[0])
        raise DataError(f"{name} embeddings hold NaN or infinity, first in row {row}; embed again.")
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not norms.all():
        row = int(np.flatnonzero(norms[:, 0] == 0)[0])
        raise DataError(f"{name} embeddings hold a zero vector, first in row {row}; embed again.")
    return matrix / norms


def _same_codes(
    first: np.ndarray, second: np.ndarray, n_query: int, n_gallery: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Any labels as int64 codes, equal where the labels are."""
    first, second = np.asarray(first), np.asarray(second)
    for side, column, n in (("query", first, n_query), ("gallery", second, n_gallery)):
        if column.shape != (n,):
            raise DataError(f"{n} {side} embeddings but {side} {what} of shape {column.shape}; give one each.")
    _, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    return codes[:n_query], codes[n_query:]
