"""The gallery index: normalises for itself, survives a round trip, says what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import RunError
from cmpnas.retrieval import GalleryIndex


def test_search_is_by_cosine_and_survives_a_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    gallery, query = rng.normal(size=(50, 8)) * rng.uniform(0.1, 9, (50, 1)), rng.normal(size=(5, 8))
    index = GalleryIndex.build(gallery)
    index.save(tmp_path / "index.faiss")
    similarity, rows = GalleryIndex.load(tmp_path / "index.faiss").search(query, 3)
    cosine = query @ gallery.T / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(gallery, axis=1)
    assert (rows == np.argsort(-cosine, axis=1)[:, :3]).all()
    assert similarity == pytest.approx(-np.sort(-cosine, axis=1)[:, :3], abs=1e-5)


def test_damaged_index_is_one_clear_line(tmp_path):
    (tmp_path / "index.faiss").write_bytes(b"not an index")
    with pytest.raises(RunError, match="cannot be read as an index"):
        GalleryIndex.load(tmp_path / "index.faiss")
