"""Blends are of two pictures, always the same, without labels, and never what a sample is drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmpnas.data.images import ArrayImages
from cmpnas.data.items import UNLABELLED, Items
from cmpnas.data.mixtures import with_mixtures

N = 40


@pytest.fixture
def items() -> Items:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(256, size=(N, 3, 8, 8), dtype=np.uint8))
    return Items(ArrayImages(pixels), np.arange(N) % 5, np.arange(N), np.arange(N) + 7)


def test_a_blend_lies_between_two_pictures_that_are_there(items):
    mixed = with_mixtures(items, 1.5)
    assert (len(mixed), len(mixed.images)) == (100, 100)
    pixels = mixed.images.read(np.arange(100)).numpy().astype(float)
    assert (pixels[:N] == items.images.pixels.numpy()).all()
    blends = mixed.images
    for n in range(60):
        a, b, share = (part[n] for part in (blends.first, blends.second, blends.share))
        assert 0.1 <= share <= 0.9
        by_hand = share * pixels[a] + (1 - share) * pixels[b]
        assert np.abs(pixels[N + n] - by_hand).max() <= 0.5 + 1e-4
    assert len(set(zip(blends.first.tolist(), blends.second.tolist(), strict=True))) > 50


def test_pictures_are_the_same_in_any_company(items):
    mixed = with_mixtures(items, 0.5)
    every = mixed.images.read(np.arange(60))
    some = np.random.default_rng(1).permutation(60)[:33]
    assert (mixed.images.read(some) == every[torch.from_numpy(some)]).all()
    assert (with_mixtures(items, 0.5).images.read(np.arange(60)) == every).all()
    assert (items.images.read(np.arange(N)) == every[:N]).all()  # reading changes no picture


def test_blends_have_no_labels_and_are_in_no_sample(items):
    mixed = with_mixtures(items, 2)
    assert (mixed.labels[:N] == items.labels).all()
    assert (mixed.labels[N:] == UNLABELLED).all()
    assert sorted(mixed.sample(10**6).tolist()) == list(range(N))
    assert (mixed.sample(9) == items.sample(9)).all()
