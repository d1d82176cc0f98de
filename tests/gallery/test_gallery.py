"""Gallery options: what is brought is checked, what is missing is made up from class means."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.errors import DataError, RunError
from cmpnas.gallery.base import Embedded, anchor
from cmpnas.gallery.precomputed import load_precomputed
from cmpnas.gallery.settings import PrecomputedSettings

SETTINGS = PrecomputedSettings(kind="precomputed", name="mine", file="mine.npz", mflops=300)


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 6)) * 5


def items(rows) -> Items:
    rows = np.array(rows)
    return Items(ArrayImages(torch.zeros(len(rows), 3, 8, 8, dtype=torch.uint8)), rows % 3 + 7, None, rows)


def test_rows_follow_the_items_and_are_unit(vectors, tmp_path):
    np.savez(tmp_path / "mine.npz", embeddings=vectors)
    option = load_precomputed(SETTINGS, tmp_path / "mine.npz", 10)
    got = option.embed(items([4, 2, 9]))
    expected = vectors[[4, 2, 9]] / np.linalg.norm(vectors[[4, 2, 9]], axis=1, keepdims=True)
    assert got == pytest.approx(expected, abs=1e-6)
    assert option.mflops == 300


def test_class_means_stand_in_for_a_classifier(vectors, tmp_path):
    np.savez(tmp_path / "mine.npz", embeddings=vectors)
    option, train = load_precomputed(SETTINGS, tmp_path / "mine.npz", 10), items(range(9))
    space = anchor(option, Embedded(option.embed(train), vectors, vectors), train, train)
    assert space.labels.tolist() == [0, 1, 2] * 3
    for k in range(3):
        mean = option.embeddings[:9][k::3].mean(0)
        assert space.classifier[k].numpy() == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_a_classifier_of_another_size_is_refused(vectors, tmp_path):
    np.savez(tmp_path / "mine.npz", embeddings=vectors, classifier=np.ones((5, 6)))
    option, train = load_precomputed(SETTINGS, tmp_path / "mine.npz", 10), items(range(9))
    with pytest.raises(RunError, match=r"classifier of gallery 'mine' is \(5, 6\); the data need \(3, 6\)"):
        anchor(option, Embedded(option.embed(train), vectors, vectors), train, train)


def test_a_pool_without_some_classes_is_numbered_as_the_classifier_is(vectors, tmp_path):
    np.savez(tmp_path / "mine.npz", embeddings=vectors, classifier=np.eye(3, 6))
    option, train = load_precomputed(SETTINGS, tmp_path / "mine.npz", 10), items(range(9))
    log = Items(items(range(6)).images, np.array([9, 8, -1, 9, -1, 8]), None, np.arange(6))
    space = anchor(option, Embedded(option.embed(log), vectors, vectors), log, train)
    assert space.labels.tolist() == [2, 1, -1, 2, -1, 1]
    assert space.classifier.numpy() == pytest.approx(np.eye(3, 6))
    nameless = Items(log.images, np.full(6, -1), None, log.rows)
    space = anchor(option, Embedded(option.embed(log), vectors, vectors), nameless, train)
    assert (space.labels == -1).all()
    assert len(space.classifier) == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embeddings": np.full((10, 6), np.nan)}, "hold NaN or infinity, first in row 0"),
        ({"embeddings": np.ones((9, 6))}, "holds 9 embeddings, the data set 10 items"),
        ({"vectors": np.ones((10, 6))}, "unknown array 'embeddings'"),
        ({"embeddings": np.ones(10)}, "not a matrix"),
    ],
)
def test_bad_embeddings_are_named(arrays, message, tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_precomputed(SETTINGS, tmp_path / "mine.npz", 10)


def test_saved_vectors_survive_and_damage_is_named(vectors, tmp_path):
    saved = Embedded(vectors, vectors + 1, vectors + 2)
    saved.save(tmp_path)
    read = Embedded.load(tmp_path)
    assert all(np.array_equal(getattr(saved, n), getattr(read, n)) for n in ("pool", "query", "gallery"))
    (tmp_path / "query.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(RunError, match=r"query\.npy cannot be read"):
        Embedded.load(tmp_path)
