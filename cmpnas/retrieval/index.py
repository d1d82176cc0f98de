"""A cosine index over gallery embeddings: exact, or any that faiss can name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import DataError, RunError
from cmpnas.retrieval.similarity import unit_rows

#: Where faiss was when it found a mistake, before what it says of it.
_IN_THE_SOURCE = re.compile(r"^Error in .*\.\w+:\d+: (Error: '.*' failed: )?")


class GalleryIndex:
    """A faiss index of inner products over unit vectors; normalises what it is given."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @staticmethod
    def build(embeddings: np.ndarray, factory: str = "Flat", without: np.ndarray | None = None) -> GalleryIndex:
        """Index ``(N, D)`` embeddings.

        Args:
            factory: a string of faiss' ``index_factory``, such as ``Flat`` (exact), ``IVF1024,Flat`` or ``HNSW32``;
                trained on the embeddings where it needs to be. See `recall` for what one of them costs.
            without: rows to leave out; the others are found under their own numbers.

        Raises:
            DataError: the embeddings are no matrix of directions, or faiss cannot build such an index on them.
        """
        import faiss

        unit = unit_rows(embeddings, "gallery")
        rows = None if without is None else np.delete(np.arange(len(unit)), without)
        try:
            index = faiss.index_factory(unit.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            if not index.is_trained:
                index.train(unit)
            if rows is None:
                index.add(unit)
            else:
                index = faiss.IndexIDMap2(index)
                index.add_with_ids(unit[rows], rows)
        except RuntimeError as fault:
            reason = _IN_THE_SOURCE.sub("", str(fault).splitlines()[0])[:120]
            raise DataError(
                f"faiss cannot build {factory!r} on {len(unit)} embeddings of {unit.shape[1]} dimensions ({reason}); "
                "try Flat, HNSW32 or IVF64,Flat."
            ) from None
        return GalleryIndex(index)

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Similarities and gallery rows of the ``k`` nearest: float32 and int64 ``(Q, k)``.

        An index that is not exact may find fewer; those places hold row -1.

        Raises:
            DataError: the queries are of another width or no directions, or ``k`` is below 1.
        """
        unit = unit_rows(query, "query")
        if unit.shape[1] != self._index.d or k < 1:
            raise DataError(
                f"{k} nearest of queries with {unit.shape[1]} dimensions are asked for; the index has {self._index.d} "
                "dimensions, and k is at least 1."
            )
        similarity, rows = self._index.search(unit, min(k, len(self)))
        return similarity, rows

    @property
    def rows(self) -> np.ndarray | None:
        """Gallery rows of what was indexed, in order, int64 ``(N,)``; None where nothing was left out."""
        import faiss

        return faiss.vector_to_array(self._index.id_map) if hasattr(self._index, "id_map") else None

    def vectors(self) -> np.ndarray:
        """What was indexed, in order, as far as the index still knows it: float32 ``(N, D)``.

        Raises:
            DataError: the index keeps nothing that its vectors could be told from.
        """
        import faiss

        index = self._index if not hasattr(self._index, "id_map") else faiss.downcast_index(self._index.index)
        try:
            if faiss.try_extract_index_ivf(index) is None and len(self):
                index.reconstruct(0)  # raises where faiss cannot; asking for all at once would end the process
            # A tensor, once something in this process has imported faiss.contrib.torch_utils.
            return np.asarray(index.reconstruct_n(0, len(self)))
        except RuntimeError:
            raise DataError("the index cannot give its vectors back; use one that keeps them, as Flat does.") from None

    def recall(self, query: np.ndarray, embeddings: np.ndarray, k: int = 10) -> float:
        """Share of the exact ``k`` nearest among the embeddings indexed that this index finds, over all queries.

        Args:
            embeddings: what was indexed, in order, without what was left out.
        """
        _, found = self.search(query, k)
        _, exact = GalleryIndex.build(embeddings).search(query, k)
        if self.rows is not None:
            exact = self.rows[exact]
        base = np.arange(len(exact))[:, None] * (1 + max(exact.max(), found.max()))
        return float(np.isin(base + exact, (base + found)[found >= 0]).mean())

    def save(self, path: Path) -> None:
        """Write a file that plain faiss reads."""
        import faiss

        faiss.write_index(self._index, str(path))

    @staticmethod
    def load(path: Path) -> GalleryIndex:
        """Read back an index.

        Raises:
            RunError: it is missing or damaged.
        """
        import faiss

        try:
            return GalleryIndex(faiss.read_index(str(path)))
        except RuntimeError as fault:
            raise RunError(f"{path} cannot be read as an index ({str(fault).splitlines()[0][:100]}).") from None
