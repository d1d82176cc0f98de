"""Twenty-way one-shot classification in runs (Omniglot, Lake et al., Science 2015).

Ground truth is a folder of runs (``run01``, ...), each with ``class_labels.txt``: a line for each test picture,
with its path and the path of the one training picture of its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.evaluate import evaluate_retrieval
from cmpnas.retrieval.protocols.result import Result
from cmpnas.retrieval.protocols.vectors import must_be_unique

_LABELS = "class_labels.txt"


@dataclass(frozen=True)
class OneShot:
    """Test and training pictures in the order of the runs, sorted by path within each; paths as the lists have them.

    Attributes:
        run_of_query, run_of_gallery: number of the run of each picture.
        answer: row of the right training picture of each test picture.
    """

    query_ids: list[str]
    gallery_ids: list[str]
    run_of_query: np.ndarray
    run_of_gallery: np.ndarray
    answer: np.ndarray

    @staticmethod
    def read(folder: Path) -> OneShot:
        """All runs of a folder.

        Raises:
            DataError: there is none, or a line is not two paths.
        """
        lists = sorted(folder.glob(f"*/{_LABELS}"))
        if not lists:
            raise DataError(f"{folder} has no run with a {_LABELS}; name the folder that holds run01, run02, ...")
        query: list[str] = []
        gallery: list[str] = []
        answers: list[int] = []
        runs: list[tuple[int, int, int]] = []
        for run, path in enumerate(lists):
            pairs = [line.split() for line in _text(path).splitlines() if line.strip()]
            wrong = next((number for number, pair in enumerate(pairs, 1) if len(pair) != 2), None)
            if wrong is not None:
                raise DataError(f"{path}, line {wrong}, is not two paths.")
            if not pairs:
                raise DataError(f"{path} is empty; fetch it again.")
            pairs.sort()
            known = sorted({shown for _, shown in pairs})
            query += [test for test, _ in pairs]
            answers += [len(gallery) + known.index(shown) for _, shown in pairs]
            gallery += known
            runs.append((run, len(pairs), len(known)))
        must_be_unique(query, folder)
        must_be_unique(gallery, folder)
        number, tests, shown = np.array(runs).T
        return OneShot(query, gallery, np.repeat(number, tests), np.repeat(number, shown), np.array(answers))

    def results(self, query: np.ndarray, gallery: np.ndarray) -> list[Result]:
        """Accuracy (hit@1 among the run's own training pictures) of embeddings in the order of the ids."""
        for side, embeddings, ids in (("test", query, self.query_ids), ("training", gallery, self.gallery_ids)):
            if len(embeddings) != len(ids):
                raise DataError(f"{len(embeddings)} embeddings of {side} pictures; the runs list {len(ids)}.")
        hits = np.zeros(len(self.query_ids))
        for run in np.unique(self.run_of_query):
            tests, shown = np.flatnonzero(self.run_of_query == run), np.flatnonzero(self.run_of_gallery == run)
            hits[tests] = evaluate_retrieval(
                np.asarray(query)[tests], np.asarray(gallery)[shown], self.answer[tests], shown, ["hit@1"]
            ).per_query("hit@1")
        runs = len(np.unique(self.run_of_query))
        return [Result(f"{runs} runs", "hit@1", float(hits.mean()), interval(hits), len(hits))]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not text ({fault.reason}); fetch it again.") from None
