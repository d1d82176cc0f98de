"""Google Landmarks v2 retrieval (Weyand et al., CVPR 2020): mAP@100, here ``map@100/min``, public and private.

Ground truth is a folder with the official ``retrieval_solution_v2.1.csv`` (id, images, Usage) and ``index.csv``
(id). Embeddings are of all queries of the former; those of usage Ignored do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmpnas.data.lists import read_csv
from cmpnas.errors import DataError
from cmpnas.retrieval.evaluate import Scores, score
from cmpnas.retrieval.protocols.result import Result, results
from cmpnas.retrieval.protocols.vectors import must_be_unique
from cmpnas.retrieval.relevance import Neighbours, Relevance
from cmpnas.retrieval.similarity import Cosine, Similarity

METRICS = ("map@100/min",)

_IGNORED = "Ignored"


@dataclass(frozen=True)
class Landmarks:
    """Queries, their usage (Public, Private or Ignored) and their rows of the gallery."""

    query_ids: list[str]
    gallery_ids: list[str]
    usage: np.ndarray
    relevant: list[np.ndarray]

    @staticmethod
    def read(folder: Path) -> Landmarks:
        """The official files of a folder.

        Raises:
            DataError: a file is missing or of another form, or names an image that the index lacks.
        """
        index_path = folder / "index.csv"
        gallery = read_csv(index_path, ("id",))["id"]
        must_be_unique(gallery, index_path)
        found = sorted(folder.glob("retrieval_solution*.csv"))
        path = found[-1] if found else folder / "retrieval_solution_v2.1.csv"
        rows = read_csv(path, ("id", "images", "Usage"))
        queries, usage = rows["id"], rows["Usage"]
        must_be_unique(queries, path)
        place = {name: number for number, name in enumerate(gallery)}
        relevant = []
        for query, images, own in zip(queries, rows["images"], usage, strict=True):
            names = [] if own == _IGNORED else images.split()
            unknown = next((name for name in names if name not in place), None)
            if unknown is not None:
                raise DataError(f"{path} names image {unknown!r} for query {query!r}, which {index_path} lacks.")
            relevant.append(np.array([place[name] for name in names], np.int64))
        return Landmarks(queries, gallery, np.array(usage), relevant)

    def scores(self, similarity: Similarity, usage: str) -> Scores:
        """Scores of any similarities in the order of the ids; queries of another usage are empty."""
        counted = [rows if own == usage else rows[:0] for rows, own in zip(self.relevant, self.usage, strict=True)]
        return score(similarity, Relevance(Neighbours.of_lists(counted, len(self.gallery_ids))), METRICS)

    def results(self, query: np.ndarray, gallery: np.ndarray) -> list[Result]:
        """Public and private, of embeddings in the order of the ids."""
        similarity = Cosine(query, gallery)
        lines: list[Result] = []
        for usage in sorted(set(self.usage.tolist()) - {_IGNORED}):
            own = int((self.usage == usage).sum())
            found = results(usage.lower(), self.scores(similarity, usage), METRICS)
            lines += [replace(line, excluded=own - line.queries) for line in found]
        return lines
