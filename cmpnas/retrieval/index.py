"""An exact cosine index over gallery embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import RunError
from cmpnas.retrieval.similarity import unit_rows


class GalleryIndex:
    """faiss ``IndexFlatIP`` over unit vectors; normalises what it is given."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @staticmethod
    def build(embeddings: np.ndarray) -> GalleryIndex:
        """Index ``(N, D)`` embeddings."""
        import faiss

        unit = unit_rows(embeddings, "gallery")
        index = faiss.IndexFlatIP(unit.shape[1])
        index.add(unit)
        return GalleryIndex(index)

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and gallery rows of the ``k`` nearest: float32 and int64 ``(Q, k)``."""
        similarity, rows = self._index.search(unit_rows(query, "query"), min(k, len(self)))
        return similarity, rows

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
