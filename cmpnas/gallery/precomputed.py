"""Embeddings that the user brings instead of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmpnas.data.items import Items
from cmpnas.data.readers.npz import read_npz
from cmpnas.errors import DataError, unknown
from cmpnas.gallery.settings import PrecomputedSettings
from cmpnas.retrieval.similarity import unit_rows


@dataclass(frozen=True)
class PrecomputedGallery:
    """One unit row for each item of the data set."""

    settings: PrecomputedSettings
    embeddings: np.ndarray
    classifier: np.ndarray | None

    @property
    def mflops(self) -> float:
        return self.settings.mflops

    @property
    def encoder(self) -> None:
        """There is no model, only what it said of the pictures."""
        return None

    @property
    def embedding_dim(self) -> int:
        return self.embeddings.shape[1]

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """The saved rows of ``items``, float32 ``(N, D)``."""
        return self.embeddings[items.rows]


def load_precomputed(settings: PrecomputedSettings, path: Path, total: int) -> PrecomputedGallery:
    """Read and check the embeddings saved in ``path`` of a data set of ``total`` items.

    Raises:
        DataError: the file is missing or damaged, rows are not as many, or values are not finite.
    """
    arrays = read_npz(path)
    if "embeddings" not in arrays:
        raise DataError(f"{settings.file}: " + unknown("array", "embeddings", arrays))
    embeddings = unit_rows(arrays["embeddings"], f"{settings.name!r} ({settings.file})")
    if len(embeddings) != total:
        raise DataError(f"{settings.file} holds {len(embeddings)} embeddings, the data set {total} items.")
    classifier = arrays.get("classifier")
    return PrecomputedGallery(settings, embeddings, None if classifier is None else unit_rows(classifier, "classifier"))
