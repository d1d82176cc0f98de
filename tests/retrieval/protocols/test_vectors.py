"""Embedding files: in order, or by id."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval.protocols.vectors import read_vectors


def test_arrays_are_memory_maps_and_ids_put_rows_in_order(tmp_path):
    rows = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "a.npy", rows)
    read = read_vectors(tmp_path / "a.npy", ["a", "b", "c", "d"], 4, "images")
    assert isinstance(read, np.memmap)
    np.savez(tmp_path / "b.npz", embeddings=rows, ids=np.array(["d", "b", "a", "c"]))
    assert (read_vectors(tmp_path / "b.npz", ["a", "b"], 2, "images") == rows[[2, 1]]).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embeddings": np.ones((3, 2)), "ids": np.array(["a", "b", "a"])}, "holds id 'a' more than once"),
        ({"embeddings": np.ones((3, 2)), "ids": np.array(["a", "b"])}, r"3 embeddings but ids of shape \(2,\)"),
        ({"embeddings": np.ones((2, 2)), "ids": np.array(["a", "x"])}, "lacks 1 of 2 images, first 'b'"),
        ({"embeddings": np.ones((3, 2))}, "holds 3 rows; the benchmark has 2 images"),
        ({"vectors": np.ones((3, 2))}, "has no array 'embeddings'; it holds vectors"),
        ({"embeddings": np.array([{}, {}])}, "cannot be read as npz"),
        ({"embeddings": np.ones(2)}, r"of shape \(2,\) are not a matrix"),
        ({"embeddings": np.ones((0, 2)), "ids": np.array([], "U1")}, "not a matrix"),
    ],
)
def test_wrong_files_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "a.npz", ["a", "b"], 2, "images")


def test_ids_that_the_benchmark_cannot_use_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", embeddings=np.ones((2, 2)), ids=np.array(["a", "b"]))
    with pytest.raises(DataError, match="holds ids, but the faces of this benchmark have none"):
        read_vectors(tmp_path / "a.npz", None, 2, "faces")


def test_no_file_and_no_array_are_named(tmp_path):
    with pytest.raises(DataError, match="does not exist; give an npy or npz file of images"):
        read_vectors(tmp_path / "none.npy", None, 2, "images")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]))
    with pytest.raises(DataError, match="cannot be read as npy"):
        read_vectors(tmp_path / "objects.npy", None, 2, "images")
