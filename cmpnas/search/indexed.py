"""The search split against every gallery option, with all that does not depend on a query network known once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cmpnas.data.items import Protocol
from cmpnas.errors import DataError
from cmpnas.gallery.base import Indexed
from cmpnas.retrieval.evaluate import Scores, score
from cmpnas.retrieval.relevance import Relevance
from cmpnas.retrieval.similarity import Cosine, Similarity, Without


@dataclass(frozen=True)
class IndexedTask:
    """Who is relevant to whom, and the galleries' unit vectors, checked and normalised at first use.

    Attributes:
        galleries: by name; the gallery of ``task`` as each option indexes it.
    """

    task: Protocol
    galleries: Mapping[str, Indexed]
    metric: str

    def score(self, similarity: Similarity, relevance: Relevance | None = None) -> Scores:
        """Of all queries, or of those that ``relevance`` is of."""
        return score(similarity, self.relevance if relevance is None else relevance, [self.metric])

    def against(
        self, query: np.ndarray, names: Iterable[str] | None = None, relevance: Relevance | None = None
    ) -> dict[str, Scores]:
        """M(q, g) of query embeddings ``(Q, D)`` and every gallery, or those of ``names``."""
        asked = self.galleries if names is None else names
        return {name: self.score(self._similarity(name, query), relevance) for name in asked}

    def relevance_of(self, rows: np.ndarray) -> Relevance:
        """Of some queries."""
        task, sources = self.task, self.task.own_sources
        own = None if sources is None else (sources[0][rows], sources[1])
        return Relevance.of_labels(task.query.labels[rows], task.gallery.labels, own, len(rows), len(task.gallery))

    @cached_property
    def relevance(self) -> Relevance:
        """Of all queries."""
        return self.relevance_of(np.arange(len(self.task.query)))

    def _similarity(self, name: str, query: np.ndarray) -> Similarity:
        cosine, rejected = self._indexed[name].of(query), self.galleries[name].rejected
        return cosine if rejected is None else Without(cosine, rejected)

    @cached_property
    def _indexed(self) -> dict[str, Cosine]:
        found = {}
        for name, known in self.galleries.items():
            try:
                found[name] = Cosine(known.gallery[:1], known.gallery)
            except DataError as fault:
                raise DataError(f"gallery option {name!r}: {fault}") from None
        return found
