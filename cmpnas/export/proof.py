"""The proof that an exported file does what the network did: the same vectors, of unit length, of the same use.

Complaints about other exporters are met here one by one: a batch size baked in (three are tried), int8 that is fast
and wrong (scored against the index that it will be asked of, query by query beside float32).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.data.items import Items, Protocol
from cmpnas.errors import RunError
from cmpnas.export.graph import Runner
from cmpnas.export.pictures import Pictures
from cmpnas.files import hash_file, read_json
from cmpnas.retrieval import GalleryIndex, Scores
from cmpnas.retrieval.compare import Comparison
from cmpnas.search.evaluator import score_pair

#: Largest difference of a number of a vector, and of its length from 1.
TOLERANCE = 1e-4
BATCHES = (1, 2, 7)
SEVERAL = 16  # pictures that vectors are compared on
#: Similarities that differ by less are equal.
TIE = 1e-6
_TOP = 10
_SOME = 64  # gallery items
_ROWS_AT_ONCE = 65_536
#: Mean cosine of two vectors of one model: one may be of bfloat16, or of a picture that was resized to and fro.
_SAME_MODEL = 0.9


@dataclass(frozen=True)
class Judge:
    """A task whose gallery is indexed already.

    Args:
        task: queries, and the labels of what was indexed.
        rows: int64 ``(N,)``, those of the gallery's items that are in the index.
        vectors: of the gallery option itself, read from its index: ``(N, D)``.
    """

    task: Protocol
    rows: np.ndarray
    vectors: np.ndarray
    metric: str

    @staticmethod
    def of_index(path: Path, task: Protocol, metric: str) -> Judge:
        """Ask an index file.

        Raises:
            CmpnasError: it is damaged, or not of this task's gallery.
        """
        index, items = GalleryIndex.load(path), len(task.gallery)
        rows = index.rows
        if (len(index) != items) if rows is None else (rows.max() >= items):
            raise RunError(f"{path} holds {len(index)} vectors; the search gallery has {items} items.")
        return Judge(task, np.arange(items) if rows is None else rows, index.vectors(), metric)

    def aligned(self, by: Callable[[np.ndarray], np.ndarray]) -> Judge:
        """The same task asked of an index whose vectors are first taken to others ``by`` a map of rows."""
        parts = range(0, len(self.vectors), _ROWS_AT_ONCE)
        return replace(self, vectors=np.concatenate([by(self.vectors[at : at + _ROWS_AT_ONCE]) for at in parts]))

    def joined(self, by: Callable[[np.ndarray, np.ndarray], np.ndarray], run: Runner, taken: Pictures) -> Judge:
        """The same asked of an index in which ``by`` has put its vectors and what ``run`` says of their pictures into
        one."""
        return replace(self, vectors=by(self.vectors, _said(run, taken, self.task.gallery, self.rows)))

    def embed(self, run: Runner, taken: Pictures) -> np.ndarray:
        """Vectors of all queries."""
        return _said(run, taken, self.task.query, np.arange(len(self.task.query)))

    def score(self, query: np.ndarray) -> Scores:
        """M(q, g): the heterogeneous score. What is not in the index comes last in every ranking."""
        items = len(self.task.gallery)
        if len(self.rows) == items:
            return score_pair(query, self.vectors, self.task, [self.metric])
        gallery = np.tile(self.vectors[:1], (items, 1))  # what is rejected may be anything
        gallery[self.rows] = self.vectors
        return score_pair(query, gallery, self.task, [self.metric], np.delete(np.arange(items), self.rows))

    def must_store(self, run: Runner, taken: Pictures) -> dict[str, float]:
        """How near what a gallery model says of some items is to what is stored of them: mean and least cosine.

        Raises:
            RunError: the index is of another model.
        """
        some = np.linspace(0, len(self.rows) - 1, min(len(self.rows), _SOME)).astype(np.int64)
        got = _said(run, taken, self.task.gallery, self.rows[some])
        cosine = (got * self.vectors[some]).sum(1)
        if not cosine.mean() >= _SAME_MODEL:
            raise RunError(
                f"the gallery model gives other vectors than the index stores (mean cosine {cosine.mean():.3f})."
            )
        return {"mean": float(cosine.mean()), "least": float(cosine.min())}

    def same_top(self, query: np.ndarray, other: np.ndarray) -> bool:
        """Equal first ten, but for neighbours whose cosines differ by no more than rounding."""
        index = GalleryIndex.build(self.vectors)
        (cosine, rows), (other_cosine, other_rows) = index.search(query, _TOP), index.search(other, _TOP)
        return bool(((rows == other_rows) | (np.abs(cosine - other_cosine) < TIE)).all())


def _said(run: Runner, taken: Pictures, items: Items, rows: np.ndarray) -> np.ndarray:
    """Vectors of some pictures, a few at a time."""
    return np.concatenate([run(batch) for batch in taken.batches(items, rows)])


def check_vectors(name: str, run: Runner, pictures: np.ndarray, expected: np.ndarray, of: str) -> dict[str, Any]:
    """Run ``pictures``, at least seven, at several batch sizes and compare with ``expected`` vectors of theirs.

    Raises:
        RunError: they differ, or are not of unit length.
    """
    differences, norm_errors = [], []
    for size in (*BATCHES, len(pictures)):
        try:
            got = run(pictures[:size])
        except Exception as fault:  # whatever runs the file has its own
            raise RunError(f"{name} cannot run {size} pictures ({str(fault).splitlines()[0][:160]}).") from None
        if got.shape != expected[:size].shape:
            raise RunError(f"{name} gives {got.shape} for {size} pictures, not {expected[:size].shape}.")
        differences.append(np.abs(got - expected[:size]).max())
        norm_errors.append(np.abs(np.linalg.norm(got, axis=1) - 1).max())
    difference, norm_error = float(np.max(differences)), float(np.max(norm_errors))
    if not (difference <= TOLERANCE and norm_error <= TOLERANCE):  # also where they are not numbers
        raise RunError(
            f"{name} differs from {of} by {difference:.2e} (in length from 1 by {norm_error:.2e}), more than "
            f"{TOLERANCE:g}."
        )
    return {
        "compared_with": of,
        "max_abs_difference": difference,
        "unit_norm_error": norm_error,
        "batches": [*BATCHES, len(pictures)],
    }


def check_near(name: str, got: np.ndarray, expected: np.ndarray, of: str) -> float:
    """The largest difference of two arrays.

    Raises:
        RunError: it is too large.
    """
    difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("nan")
    if not difference <= TOLERANCE:
        raise RunError(f"{name} differs from {of} by {difference:.2e}, more than {TOLERANCE:g}.")
    return difference


def told(scores: Scores, metric: str) -> dict[str, Any]:
    """A score as a manifest has it."""
    return {"score": scores[metric], "interval": list(scores.interval(metric))}


def lost_points(gained: Comparison) -> float:
    """What is lost, in points of a hundred."""
    return -100 * gained.difference


def told_points(comparison: Comparison) -> dict[str, Any]:
    """A paired difference, in points of a hundred, as a manifest has it."""
    low, high = comparison.interval
    return {"points": 100 * comparison.difference, "interval": [100 * low, 100 * high]}


def must_be_of(path: Path, gallery: dict[str, Any]) -> None:
    """Refuse an index that is of another gallery model than a bundle's.

    Either the file is the very one that the bundle was made for, or ``key.json`` beside it names the same model.

    Args:
        gallery: as the bundle's manifest has it.

    Raises:
        RunError: it is of another, or of one that nothing names; both hashes are in the message.
    """
    found, key = hash_file(path), path.with_name("key.json")
    if found is None:
        raise RunError(f"index {path} does not exist; name RUN/gallery/NAME/index.faiss.")
    model = read_json(key) if key.is_file() else None
    if found != gallery["index"] and model != gallery["key"]:
        raise RunError(
            f"{path} (hash {found}, gallery model {model or 'unknown: no key.json beside it'}) is not of the gallery "
            f"model that this bundle was made for (index {gallery['index']}, gallery model {gallery['key']}); "
            "name that one's index, or export for this gallery."
        )
