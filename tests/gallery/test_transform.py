"""Transforms: the published shapes, a start at least squares, training that finds another model's space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmpnas.compat import Anchor
from cmpnas.errors import DataError, RunError
from cmpnas.gallery import transform as module
from cmpnas.gallery.settings import TransformSettings
from cmpnas.gallery.transform import KINDS, Transform, load_transform, train_transform

PLAN = {"epochs": 15, "batch_size": 32, "lr": 0.01}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def two_models(n=256, classes=8, seed=0):
    """What an anchor of 12 numbers and another model of 20 say of the same pictures: a bent view of it, and noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    latent = rng.normal(size=(classes, 6))[labels] + 0.5 * rng.normal(size=(n, 6))
    anchor = unit(np.tanh(latent @ rng.normal(size=(6, 12)))).astype(np.float32)
    other = unit(np.tanh(1.5 * latent @ rng.normal(size=(6, 20))) + 0.1 * rng.normal(size=(n, 20))).astype(np.float32)
    centres = unit(np.stack([anchor[labels == k].mean(0) for k in range(classes)]))
    space = Anchor(
        torch.from_numpy(anchor), torch.from_numpy(labels), torch.from_numpy(centres).float(), "arcface", 16.0, 0.1
    )
    return space, other


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_cost_is_what_is_multiplied(kind):
    d = 40
    body = {
        "linear": 0,
        "parallel": 4 * (d * 16 + 16 * 16 + 16 * d),
        "wide": 2 * d * (d // 2),
        "sequential": 4 * 2 * 16 * d,
    }
    assert Transform(kind, 24, d).macs == 24 * d + body[kind]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_transform_starts_as_ridge_regression(kind, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 100)
    linear_model = pytest.importorskip("sklearn.linear_model")
    space, other = two_models()
    target = space.embeddings.numpy()
    transform = Transform(kind, 20, 12).eval()
    transform.start_at(other, target)
    energy = np.square(other - other.mean(0)).sum() / len(other)
    expected = unit(linear_model.Ridge(alpha=energy).fit(other, target).predict(other))
    assert transform.apply_to(other) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_training_finds_the_anchors_space(kind, tmp_path):
    space, other = two_models()
    settings = TransformSettings(kind=kind, train=PLAN)
    train_transform("other", settings, other, space, tmp_path / "t.pt")
    trained = load_transform(settings, 20, 12, tmp_path / "t.pt")
    mapped = trained.apply_to(other)
    target = space.embeddings.numpy()
    assert np.linalg.norm(mapped, axis=1) == pytest.approx(np.ones(256), abs=1e-5)
    start = Transform(kind, 20, 12).eval()
    start.start_at(other, target)
    assert (mapped * target).sum(1).mean() > (start.apply_to(other) * target).sum(1).mean()
    told, known = ((side @ space.classifier.numpy().T).argmax(1) == space.labels.numpy() for side in (mapped, target))
    assert told.mean() > 0.9 * known.mean()
    assert [path.name for path in tmp_path.iterdir()] == ["t.pt"]


def test_a_transform_is_a_function_of_its_seed(tmp_path):
    space, other = two_models()
    found = []
    for n, seed in enumerate((3, 3, 4)):
        settings = TransformSettings(kind="wide", seed=seed, train=PLAN | {"epochs": 2})
        train_transform("other", settings, other, space, tmp_path / f"{n}.pt")
        found.append(load_transform(settings, 20, 12, tmp_path / f"{n}.pt").apply_to(other))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_rows_are_mapped_alone_and_into_a_memory_map(tmp_path, monkeypatch):
    space, other = two_models()
    transform = Transform("parallel", 20, 12).eval()
    transform.start_at(other, space.embeddings.numpy())
    whole = transform.apply_to(other)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 37)
    into = np.lib.format.open_memmap(tmp_path / "v.npy", mode="w+", dtype=np.float32, shape=whole.shape)
    np.save(tmp_path / "other.npy", other)
    transform.apply_to(np.load(tmp_path / "other.npy", mmap_mode="r"), into)
    assert into == pytest.approx(whole, abs=1e-6)


def test_mistakes_are_named(tmp_path):
    space, other = two_models()
    settings = TransformSettings(kind="linear", train=PLAN | {"epochs": 1})
    with pytest.raises(DataError, match="'other' has embeddings of 255 pictures, the anchor of 256; embed the same"):
        train_transform("other", settings, other[:-1], space, tmp_path / "t.pt")
    train_transform("other", settings, other, space, tmp_path / "t.pt")
    with pytest.raises(RunError, match=r"t\.pt does not hold a linear transform from 21 to 12 numbers"):
        load_transform(settings, 21, 12, tmp_path / "t.pt")
    trained = load_transform(settings, 20, 12, tmp_path / "t.pt")
    with pytest.raises(DataError, match=r"shape \(256, 19\) are given to a transform that takes \(N, 20\)"):
        trained.apply_to(other[:, :19])
    other[7] = np.nan
    with pytest.raises(DataError, match="hold NaN or infinity, first in row 7"):
        trained.apply_to(other)
    with pytest.raises(ValueError, match=r"unknown loss 'regresion'\. Did you mean 'regression'"):
        TransformSettings(kind="linear", loss={"regresion": 1}, train=PLAN)
