"""What files take is what was asked for, and it is prepared as readers of data prepare pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cmpnas.data.images import ArrayImages, to_float
from cmpnas.data.items import Items
from cmpnas.errors import CmpnasError
from cmpnas.export.pictures import Pictures


@pytest.mark.parametrize("text", ["hwc", "nhwc:480", "nhwc:0x3", "nchw:1x9999", "nhwc:-1x2", ""])
def test_what_is_not_an_input_is_refused(text):
    with pytest.raises(CmpnasError, match="--preprocess"):
        Pictures.parse(text, 32)


@pytest.mark.parametrize("text", [None, "nhwc", "nchw", "nhwc:48x64", "NCHW:20x8"])
def test_json_says_it_all(text):
    taken = Pictures.parse(text, 32)
    assert Pictures.from_json(taken.to_json()) == taken
    example = taken.example(3)
    assert example.shape == (3, *taken.shape)
    with torch.no_grad():
        ready = taken.preparation()(torch.from_numpy(example))
    assert ready.shape == (3, 3, 32, 32)
    assert ready.dtype == torch.float32
    assert -1 - 1e-6 <= ready.min() < ready.max() <= 1 + 1e-6


def test_resizing_is_pillows():
    taken = Pictures.parse("nhwc:45x70", 24)
    picture = taken.example(1)[0]
    channels = [Image.fromarray(picture[..., c].astype(np.float32)) for c in range(3)]
    expected = np.stack([np.asarray(c.resize((24, 24), Image.Resampling.BILINEAR)) for c in channels]) / 127.5 - 1
    got = taken.preparation()(torch.from_numpy(picture[None]))[0].numpy()
    assert np.abs(got - expected).max() < 1e-4


def test_items_are_fed_in_every_layout_and_in_bounded_batches():
    pixels = torch.randint(0, 256, (70, 3, 16, 16), dtype=torch.uint8)
    items = Items(ArrayImages(pixels), np.zeros(70, int), None, np.arange(70))
    rows = np.arange(70)
    assert np.array_equal(Pictures.parse("nchw", 16).read(items, rows), pixels.numpy())
    assert np.array_equal(Pictures.parse("nhwc", 16).read(items, rows), pixels.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(Pictures.parse(None, 16).read(items, rows), to_float(pixels).numpy())
    large = Pictures.parse("nhwc:1024x1024", 16)
    assert [len(batch) for batch in large.batches(items, rows[:7])] == [5, 2]
    assert [len(batch) for batch in Pictures.parse(None, 16).batches(items, rows)] == [16, 16, 16, 16, 6]
