"""The gallery index: normalises for itself, survives a round trip, says what is wrong."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cmpnas.errors import DataError, RunError
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


@pytest.mark.parametrize(("factory", "close"), [("Flat", 1e-6), ("IVF4,Flat", 1e-6), ("HNSW8", 1e-6), ("SQ8", 0.01)])
def test_vectors_come_back_in_order(factory, close):
    gallery = np.random.default_rng(0).normal(size=(200, 8)) * 3
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    assert np.abs(GalleryIndex.build(gallery, factory).vectors() - unit).max() < close


def test_vectors_are_arrays_beside_what_makes_faiss_speak_tensors():
    script = (
        "import faiss.contrib.torch_utils, numpy as np; from cmpnas.retrieval import GalleryIndex;"
        "print(type(GalleryIndex.build(np.eye(3)).vectors()).__name__)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "ndarray"


def test_an_index_that_keeps_no_vectors_by_row_says_so():
    import faiss

    index = faiss.IndexShards(8)
    index.add_shard(faiss.IndexFlatIP(8))
    index.add(np.eye(8, dtype=np.float32))
    with pytest.raises(DataError, match="cannot give its vectors back; use one that keeps them"):
        GalleryIndex(index).vectors()


def test_damaged_index_is_one_clear_line(tmp_path):
    (tmp_path / "index.faiss").write_bytes(b"not an index")
    with pytest.raises(RunError, match="cannot be read as an index"):
        GalleryIndex.load(tmp_path / "index.faiss")


def clustered(rng, n):
    return rng.normal(size=(20, 16))[np.arange(n) % 20] + 0.2 * rng.normal(size=(n, 16))


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "HNSW16", "PQ4x4", "SQ8"])
def test_recall_of_any_index_is_measured_against_exact_search(factory):
    rng = np.random.default_rng(0)
    gallery, query = clustered(rng, 2000), clustered(rng, 30)
    index = GalleryIndex.build(gallery, factory)
    cosine = query @ gallery.T / np.linalg.norm(gallery, axis=1)
    exact = np.argsort(-cosine, axis=1)[:, :5]
    _, found = index.search(query, 5)
    expected = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found, exact, strict=True)])
    assert index.recall(query, gallery, 5) == pytest.approx(expected)
    assert index.recall(query, gallery, 5) == 1 if factory == "Flat" else 0.1 < expected <= 1


def test_queries_of_another_width_are_named():
    index = GalleryIndex.build(np.eye(4))
    for query, k in ((np.ones((1, 3)), 1), (np.ones((1, 4)), 0)):
        with pytest.raises(DataError, match="the index has 4 dimensions, and k is at least 1"):
            index.search(query, k)


def test_an_index_that_faiss_cannot_build_is_named():
    with pytest.raises(DataError, match=r"'Magic7' on 9 embeddings of 4 dimensions \(could not parse index string"):
        GalleryIndex.build(np.eye(9)[:, :4] + 1, "Magic7")
    with pytest.raises(DataError, match=r"faiss cannot build 'IVF64,Flat' on 9 .* \(Number of training points \(9\)"):
        GalleryIndex.build(np.eye(9)[:, :4] + 1, "IVF64,Flat")


def test_recall_of_an_index_that_leaves_rows_out():
    rng = np.random.default_rng(0)
    gallery, query, out = clustered(rng, 300), clustered(rng, 40), np.arange(0, 300, 7)
    index = GalleryIndex.build(gallery, without=out)
    assert index.recall(query, np.delete(gallery, out, 0), 5) == 1
