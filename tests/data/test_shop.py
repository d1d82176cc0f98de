"""The renderer: deterministic, hard enough for pixels, possible for a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from cmpnas.data import load_splits
from cmpnas.data.settings import ShopSettings
from cmpnas.data.shop import render
from cmpnas.data.shop_identities import CATEGORIES, draw_identities
from cmpnas.retrieval import evaluate_retrieval


@pytest.fixture(scope="module")
def splits():
    return load_splits(
        ShopSettings(
            reader="shop",
            size=32,
            train_identities=60,
            unlabelled_identities=20,
            search_identities=40,
            test_identities=40,
        )
    )


def test_a_picture_does_not_depend_on_its_batch():
    ids = draw_identities(20, 0)
    who, view = np.arange(20), np.arange(20) % 3
    for role in ("catalogue", "consumer"):
        together = render(ids, who, view, role, seed=1, size=32)
        alone = torch.cat([render(ids, who[i : i + 1], view[i : i + 1], role, seed=1, size=32) for i in range(20)])
        assert torch.equal(together, alone)
        assert not torch.equal(together, render(ids, who, view, role, seed=2, size=32))


@pytest.mark.parametrize("size", [28, 64, 100])
def test_any_size(size):
    pictures = render(draw_identities(4, 0), np.arange(4), np.zeros(4, int), "catalogue", seed=0, size=size)
    assert pictures.shape == (4, 3, size, size)
    assert pictures.dtype == torch.uint8


def test_captions_say_what_is_drawn():
    ids = draw_identities(400, 0)
    assert len(ids.captions) == 400
    for caption, category in zip(ids.captions, ids.category, strict=True):
        assert CATEGORIES[category] in caption
    assert len(set(ids.captions)) > 360  # nearly every product has a text of its own


def test_identities_are_disjoint_between_splits(splits):
    train = set(splits.train.labels)
    search, test = set(splits.search.query.labels), set(splits.test.query.labels)
    assert not train & search and not train & test and not search & test  # noqa: PT018
    assert set(splits.search.gallery.labels) == search
    assert set(splits.test.gallery.labels) == test


def pixels(items) -> np.ndarray:
    return torch.cat(list(items.float_batches(256))).flatten(1).numpy()


def test_pixels_do_not_solve_it(splits):
    """Raw pixels retrieve badly, and a linear probe does not carry from catalogue to consumer shots."""
    task = splits.search
    labels = task.query.labels, task.gallery.labels
    assert evaluate_retrieval(pixels(task.query), pixels(task.gallery), *labels, ["hit@1"])["hit@1"] < 0.3
    probe = RidgeClassifier(alpha=10.0).fit(pixels(task.gallery), task.gallery.labels)
    assert probe.score(pixels(task.query), task.query.labels) < 0.3
