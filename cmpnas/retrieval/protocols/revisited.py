"""Revisited Oxford and Paris (Radenovic et al., CVPR 2018): easy, medium and hard.

Ground truth is the official ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``. Easy counts the easy images and
removes the hard ones with the junk; medium counts both; hard counts the hard ones and removes the easy ones.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.evaluate import Scores, score
from cmpnas.retrieval.protocols.result import Result, results
from cmpnas.retrieval.protocols.vectors import must_be_unique
from cmpnas.retrieval.relevance import Neighbours, Relevance
from cmpnas.retrieval.similarity import Cosine, Similarity

Setup = Literal["easy", "medium", "hard"]
METRICS = ("map_oxford", "mp@1_oxford", "mp@5_oxford", "mp@10_oxford")

_COUNTED: dict[Setup, tuple[str, ...]] = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}
_REMOVED: dict[Setup, tuple[str, ...]] = {"easy": ("hard", "junk"), "medium": ("junk",), "hard": ("easy", "junk")}
#: All that a pickle of lists, dictionaries, text and arrays needs.
_HARMLESS = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("builtins", "bytes"), ("__builtin__", "bytes"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer"),
}  # fmt: skip


@dataclass(frozen=True)
class Revisited:
    """The two lists of image names, and rows of the gallery by query under ``easy``, ``hard`` and ``junk``."""

    query_ids: list[str]
    gallery_ids: list[str]
    truth: dict[str, list[np.ndarray]]

    @staticmethod
    def read(path: Path) -> Revisited:
        """The official pickle; nothing in it can run code.

        Raises:
            DataError: it is missing, damaged, or not of this form.
        """
        try:
            with path.open("rb") as file:
                raw = _Harmless(file, encoding="latin1").load()
            parts = {kind: [_rows(query[kind]) for query in raw["gnd"]] for kind in ("easy", "hard", "junk")}
            names = [[str(name) for name in raw[key]] for key in ("qimlist", "imlist")]
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; give gnd_roxford5k.pkl or gnd_rparis6k.pkl.") from None
        except DataError:
            raise
        except Exception as fault:  # a damaged pickle can raise anything
            reason = f"{type(fault).__name__}: {fault}".splitlines()[0][:100]
            raise DataError(
                f"{path} is not a ground truth of imlist, qimlist and gnd with easy, hard and junk ({reason}); "
                "fetch it again."
            ) from None
        if len(names[0]) != len(parts["easy"]):
            raise DataError(f"{path} names {len(names[0])} queries but has ground truth of {len(parts['easy'])}.")
        for ids in names:
            must_be_unique(ids, path)
        return Revisited(names[0], names[1], parts)

    def scores(self, similarity: Similarity, setup: Setup) -> Scores:
        """Scores of any similarities of the queries to the gallery, in the order of the names."""
        lists = (self._lists(_COUNTED[setup]), self._lists(_REMOVED[setup]))
        relevant, removed = (Neighbours.of_lists(rows, len(self.gallery_ids)) for rows in lists)
        return score(similarity, Relevance(relevant, removed), METRICS)

    def results(self, query: np.ndarray, gallery: np.ndarray) -> list[Result]:
        """All setups, of embeddings in the order of the names; a setup without any positive is left out."""
        similarity = Cosine(query, gallery)
        lines: list[Result] = []
        for setup in get_args(Setup):
            if any(len(rows) for rows in self._lists(_COUNTED[setup])):
                lines += results(setup, self.scores(similarity, setup), METRICS)
        if not lines:
            raise DataError("no query of the ground truth has any positive; fetch it again.")
        return lines

    def _lists(self, kinds: tuple[str, ...]) -> list[np.ndarray]:
        return [np.concatenate(parts) for parts in zip(*(self.truth[kind] for kind in kinds), strict=True)]


def _rows(values: Any) -> np.ndarray:
    rows = np.asarray(values)
    if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
        raise TypeError(f"{str(values)[:40]!r} is no list of rows")
    return rows.astype(np.int64)


class _Harmless(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise DataError(f"the pickle asks for {module}.{name}, which no ground truth needs; it was not loaded.")
        return super().find_class(module, name)
