"""Whitening in closed form, against scikit-learn and against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cmpnas.errors import RecipeError
from cmpnas.gallery import whitening as module
from cmpnas.gallery.whitening import whitening


@pytest.fixture
def classes():
    """Twelve classes of uneven size, whose items vary far more along some directions than others."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(12), np.arange(5, 29, 2)))
    noise = rng.normal(size=(len(labels), 10)) * np.geomspace(0.05, 4, 10)
    return rng.normal(size=(12, 10))[labels] + noise @ np.linalg.qr(rng.normal(size=(10, 10)))[0], labels


def within(values, labels):
    parts = [values[labels == label] - values[labels == label].mean(0) for label in np.unique(labels)]
    return sum(part.T @ part for part in parts) / len(values)


def test_items_of_a_class_vary_alike_in_all_directions(classes):
    features, labels = classes
    weight, bias = whitening(features, labels, 10, 1e-9)
    mapped = features @ weight.T + bias
    assert mapped.mean(0) == pytest.approx(np.zeros(10), abs=1e-9)
    assert within(mapped, labels) == pytest.approx(np.eye(10), abs=1e-5)
    variances = mapped.var(0)
    assert np.all(np.diff(variances) <= 0)  # principal directions first


@pytest.mark.parametrize("shrinkage", [0.1, 0.5])
def test_unshrunk_directions_are_those_of_discriminant_analysis(classes, shrinkage):
    features, labels = classes
    reference = LinearDiscriminantAnalysis(solver="eigen", shrinkage=1e-9).fit(features, labels)
    weight, _ = whitening(features, labels, 4, 1e-9)
    ours, theirs = (np.linalg.qr(directions)[0] for directions in (weight.T, reference.scalings_[:, :4]))
    assert np.linalg.svd(ours.T @ theirs, compute_uv=False) == pytest.approx(np.ones(4), abs=1e-6)
    known = within(features, labels)
    shrunk = (1 - shrinkage) * known + shrinkage * np.trace(known) / 10 * np.eye(10)
    weight, _ = whitening(features, labels, 10, shrinkage)
    assert weight @ shrunk @ weight.T == pytest.approx(np.eye(10), abs=1e-9)


def test_fully_shrunk_is_principal_components(classes):
    features, labels = classes
    weight, _ = whitening(features, labels, 3, 1.0)
    centred = features - features.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    mapped, expected = centred @ weight.T, centred @ axes[:3].T
    scale = np.sqrt(np.trace(within(features, labels)) / 10)
    assert np.abs(mapped) == pytest.approx(np.abs(expected) / scale, rel=1e-6)


def test_features_are_read_in_parts(classes, monkeypatch):
    features, labels = classes
    whole = whitening(features, labels, 5, 0.2)
    monkeypatch.setattr(module, "_CHUNK", 17)
    for found, expected in zip(whitening(features, labels, 5, 0.2), whole, strict=True):
        assert np.abs(found) == pytest.approx(np.abs(expected), rel=1e-6)


def test_classes_of_one_picture_each_say_nothing_of_what_varies_within():
    features = np.random.default_rng(0).normal(size=(40, 6))
    with pytest.raises(RecipeError, match=r"every class has a single picture; leave gallery\.projection out"):
        whitening(features, np.arange(40), 3, 0.2)


def test_more_directions_than_there_are(classes):
    features, labels = classes
    with pytest.raises(RecipeError, match=r"11 numbers needs as many directions; .* have 10\. Lower"):
        whitening(features, labels, 11, 0.5)
