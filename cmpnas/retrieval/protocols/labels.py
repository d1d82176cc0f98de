"""Class retrieval by a user's own labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmpnas.data.readers.npz import must_hold, read_npz
from cmpnas.retrieval.evaluate import Empty, Scores, score
from cmpnas.retrieval.index import GalleryIndex
from cmpnas.retrieval.metrics import get_metric
from cmpnas.retrieval.ranking import Ties
from cmpnas.retrieval.relevance import Relevance
from cmpnas.retrieval.similarity import Cosine, Retrieved, Similarity


@dataclass(frozen=True)
class Labels:
    """Labels of queries and gallery items, and sources whose own items are ignored, or None."""

    query: np.ndarray
    gallery: np.ndarray
    sources: tuple[np.ndarray, np.ndarray] | None

    @staticmethod
    def read(path: Path) -> Labels:
        """An npz of ``query_labels`` and ``gallery_labels``, and ``query_sources`` and ``gallery_sources`` if wanted.

        Raises:
            DataError: the file is missing or damaged, or an array is missing.
        """
        found = read_npz(path, "query_labels", "gallery_labels")
        arrays = {name: np.atleast_1d(array) for name, array in found.items()}
        names, sources = ("query_sources", "gallery_sources"), None
        if any(name in arrays for name in names):
            must_hold(arrays, path, *names)
            sources = arrays[names[0]], arrays[names[1]]
        return Labels(arrays["query_labels"], arrays["gallery_labels"], sources)

    def scores(
        self,
        query: np.ndarray,
        gallery: np.ndarray,
        metrics: Sequence[str],
        *,
        ties: Ties = "pessimistic",
        empty: Empty = "exclude",
        index: GalleryIndex | None = None,
    ) -> Scores:
        """Scores of the exact ranking, or of what ``index`` finds, asked for as many items as the metrics look at."""
        relevance = Relevance.of_labels(self.query, self.gallery, self.sources, len(query), len(gallery))
        similarity: Similarity
        if index is None:
            similarity = Cosine(query, gallery)
        else:
            reaches = [get_metric(name).reach for name in metrics]
            most = 0 if relevance.removed is None else int(relevance.removed.counts.max())
            wanted = len(gallery) if None in reaches else max(reach or 0 for reach in reaches) + most
            similarity = Retrieved(lambda rows: index.search(query[rows], wanted), (len(query), len(gallery)))
        return score(similarity, relevance, metrics, ties=ties, empty=empty)
