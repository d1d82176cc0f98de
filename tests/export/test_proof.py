"""The judge of exported files asks the index that there is."""

from __future__ import annotations

import numpy as np
import torch

from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items, Protocol
from cmpnas.export.pictures import Pictures
from cmpnas.export.proof import Judge


def test_vectors_are_joined_by_those_of_their_own_pictures():
    """Of four pictures, of 0, 64, 128 and 255 all over, the second and the last are indexed."""
    shades = torch.tensor([0, 64, 128, 255], dtype=torch.uint8)
    pictures = ArrayImages(shades[:, None, None, None].expand(-1, 3, 8, 8).contiguous())
    items = Items(pictures, np.arange(4), None, np.arange(4))
    judge = Judge(Protocol(items, items), np.array([1, 3]), np.array([[10.0, 0], [20, 0]], np.float32), "map@r")

    def said(batch: np.ndarray) -> np.ndarray:
        return np.repeat(batch.mean((1, 2, 3))[:, None], 2, axis=1)

    joined = judge.joined(lambda stored, own: stored + own, said, Pictures(8))
    own = shades.numpy().astype(np.float64)[[1, 3], None] / 127.5 - 1
    assert np.abs(joined.vectors - (np.array([[10.0, 0], [20, 0]]) + own)).max() < 1e-6
    assert judge.vectors.tolist() == [[10, 0], [20, 0]]
