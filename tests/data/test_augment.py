"""Each change of a picture is what its word says, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from cmpnas.data.augment import Augment, augment, draws, evenly

SIDE = 32
FLIP, ZOOM, TURN, X, Y, CONTRAST, BRIGHTNESS, TALL, TOP, WIDE, LEFT, ERASE = range(12)


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.5


def changed(image, how, chances):
    """With all numbers in the middle but these."""
    chance = torch.full((1, 12), 0.5)
    for column, value in chances.items():
        chance[0, column] = value
    return augment(image, how, chance)


def test_a_flip_mirrors_below_its_probability(image):
    assert changed(image, Augment(flip=0.5), {FLIP: 0.49}).numpy() == pytest.approx(image.flip(3).numpy(), abs=1e-5)
    assert changed(image, Augment(flip=0.5), {FLIP: 0.5}).numpy() == pytest.approx(image.numpy(), abs=1e-5)


@pytest.mark.parametrize(("chance", "quarters"), [(1.0, 1), (0.0, -1)])
def test_a_turn_goes_either_way_by_degrees(image, chance, quarters):
    found = changed(image, Augment(turn=90), {TURN: chance})
    assert found.numpy() == pytest.approx(torch.rot90(image, quarters, (2, 3)).numpy(), abs=1e-4)


def test_a_small_turn_and_a_zoom_are_those_of_scipy(image):
    found = changed(image, Augment(turn=30, zoom=0.5), {TURN: 1.0, ZOOM: 1.0})[0]
    angle, middle = np.deg2rad(30), (SIDE - 1) / 2
    y, x = np.mgrid[:SIDE, :SIDE] - middle
    at = 1.5 * np.array([np.sin(angle) * x + np.cos(angle) * y, np.cos(angle) * x - np.sin(angle) * y]) + middle
    for own, channel in zip(found.numpy(), image[0].numpy(), strict=True):
        assert own == pytest.approx(map_coordinates(channel, at, order=1, mode="nearest"), abs=1e-4)


@pytest.mark.parametrize(("column", "axis"), [(X, 3), (Y, 2)])
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_shift_is_a_share_of_the_side_and_the_border_fills_in(image, column, axis, chance):
    found = changed(image, Augment(shift=0.25), {column: chance})
    taken = (torch.arange(SIDE) + (8 if chance else -8)).clamp(0, SIDE - 1)
    assert found.numpy() == pytest.approx(image.index_select(axis, taken).numpy(), abs=1e-4)


@pytest.mark.parametrize(("contrast", "brightness"), [(1.0, 0.0), (0.0, 1.0)])
def test_light_is_contrast_and_brightness_either_way(image, contrast, brightness):
    found = changed(image, Augment(light=0.4), {CONTRAST: contrast, BRIGHTNESS: brightness})
    expected = image.numpy() * (0.6 + 0.8 * contrast) - 0.4 + 0.8 * brightness
    assert found.numpy() == pytest.approx(expected.clip(-1, 1), abs=1e-6)


def test_an_erased_box_is_where_it_was_drawn(image):
    box = {TALL: 0.5, TOP: 0.5, WIDE: 1.0, LEFT: 0.0}  # 10.4 px from 12, 16 px from -3.2
    found, expected = changed(image, Augment(erase=0.5), box | {ERASE: 0.49}), image.clone()
    expected[..., 12:23, :13] = 0
    assert torch.equal(found, expected)
    assert torch.equal(changed(image, Augment(erase=0.5), box | {ERASE: 0.5}), image)


def test_numbers_are_uniform_and_apart():
    for numbers in (draws(torch.arange(4000), 3), evenly(4000)):
        assert numbers.shape == (4000, 12)
        assert (numbers.min() >= 0) & (numbers.max() < 1)
        assert numbers.mean(0).numpy() == pytest.approx(0.5, abs=0.03)
        assert numbers.var(0).numpy() == pytest.approx(1 / 12, abs=0.01)
        assert np.abs(np.corrcoef(numbers.T.numpy()) - np.eye(12)).max() < 0.08
