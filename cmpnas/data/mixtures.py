"""Pictures blended of two others: more of the world to follow a gallery model in than there are pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cmpnas.data.images import Images
from cmpnas.data.items import UNLABELLED, Items

_LEAST = 0.1  # of the fainter picture


@dataclass(frozen=True)
class Blends:
    """``N`` pictures, and after them ``M`` blends of two of them.

    Attributes:
        first, second: int64 ``(M,)``, which two.
        share: float32 ``(M,)``, of the first.
    """

    images: Images
    first: np.ndarray
    second: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.images) + len(self.share)

    def read(self, indices: np.ndarray) -> Tensor:
        blend = indices - len(self.images)
        mixed = blend >= 0
        pictures = self.images.read(np.where(mixed, self.first[np.maximum(blend, 0)], indices))
        if mixed.any():
            share = torch.from_numpy(self.share[blend[mixed]])[:, None, None, None]
            others = self.images.read(self.second[blend[mixed]]).float()
            where = torch.from_numpy(mixed)
            pictures[where] = (share * pictures[where].float() + (1 - share) * others).round().to(torch.uint8)
        return pictures


@dataclass(frozen=True)
class Mixed(Items):
    """Items and blends of them, which have no labels; samples are of the ``real`` ones, that come first."""

    real: Items

    def sample(self, count: int) -> np.ndarray:
        return self.real.sample(count)


def with_mixtures(items: Items, times: float) -> Mixed:
    """``items`` and ``times`` as many blends of two of them, the same ones every time.

    A gallery model has something to say of a blend too, and a network that follows it there knows more than the
    pictures by heart (function matching, Beyer et al., CVPR 2022).
    """
    n, count, rng = len(items), round(times * len(items)), np.random.default_rng(5)
    first, second = rng.integers(n, size=count), rng.integers(n, size=count)
    share = rng.uniform(_LEAST, 1 - _LEAST, count).astype(np.float32)
    labels = np.concatenate([items.labels, np.full(count, UNLABELLED)])
    rows = np.concatenate([items.rows, np.full(count, UNLABELLED)])  # of no picture of the data set
    return Mixed(Blends(items.images, first, second, share), labels, None, rows, items)
