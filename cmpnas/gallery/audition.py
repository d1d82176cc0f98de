"""What a source of a fusion knows of classes by itself, heard before any mixer learns.

A mixer learns by heart what it can: a source that says something else of every picture, and nothing of what it shows,
costs more than a point of retrieval (docs/fusion.md). Neighbours that nobody trained cannot be learned by heart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmpnas.data.items import UNLABELLED, Items
from cmpnas.gallery.bank import Bank
from cmpnas.retrieval import evaluate_retrieval

_PICTURES = 4096  # at most
_OF_CLASS = 256  # at most of a class, so that many classes are heard however large they are


@dataclass(frozen=True)
class Heard:
    """How often the nearest other picture, by a source's features as they are, shows the same class.

    Attributes:
        hit: share of the pictures heard; ``interval`` is its 95% interval (Wilson's).
        chance: the same for features that know nothing.
    """

    source: str
    hit: float
    interval: tuple[float, float]
    chance: float

    @property
    def silent(self) -> bool:
        """Surely not a tenth of the way from chance to always.

        Being above chance is not asked: neighbours come in pairs, so noise is there more often than one time in twenty.
        """
        return self.interval[1] <= self.chance + 0.1 * (1 - self.chance)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.source}: hit@1 {self.hit:.4f} [{low:.4f}, {high:.4f}], by chance {self.chance:.4f}"


def hear(bank: Bank, names: Sequence[str], items: Items) -> list[Heard]:
    """The features of sources of ``bank`` (local ones averaged) on labelled ``items``, which it holds.

    Of many pictures classes are taken, the same every time, until there are 4,096, of each at most 256. Where no class
    has two pictures, or all sources would be silent, there is nothing to choose by and the list is empty.
    """
    rows, labels = _some_classes(items)
    if not len(rows):
        return []
    counts = np.unique(labels, return_counts=True)[1]
    chance = float((counts * (counts - 1)).sum() / len(rows) / (len(rows) - 1))
    found = []
    for name in names:
        features = bank.only([name]).read(rows)[0].mean(1).numpy()
        hit = _hits(features, labels) / len(rows)
        found.append(Heard(name, hit, _wilson(hit, len(rows)), chance))
    return [] if all(heard.silent for heard in found) else found


def _hits(features: np.ndarray, labels: np.ndarray) -> int:
    """How many pictures have one of their class nearest; a source that says nothing of a picture, zeros, misses it."""
    told = features.any(1)
    said, own, itself = features[told], labels[told], np.arange(told.sum())
    if len(np.unique(own)) == len(own):
        return 0
    return int(evaluate_retrieval(said, said, own, own, ["hit@1"], (itself, itself)).per_query("hit@1").sum())


def _wilson(share: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share, which has a width where it is 0 or 1 too (Wilson, 1927)."""
    z = 1.959964
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def _some_classes(items: Items) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the data set and labels of pictures whose class has others."""
    rng, known = np.random.default_rng(0), np.flatnonzero(items.labels != UNLABELLED)
    _, group, counts = np.unique(items.labels[known], return_inverse=True, return_counts=True)
    classes = rng.permutation(np.flatnonzero(counts > 1))
    taken = classes[: int((np.cumsum(np.minimum(counts[classes], _OF_CLASS)) <= _PICTURES).sum())]
    mixed = rng.permutation(len(known))
    order = mixed[np.argsort(group[mixed], kind="stable")]
    place = np.empty(len(known), int)
    place[order] = np.arange(len(known)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = known[np.isin(group, taken) & (place < _OF_CLASS)]
    return items.rows[chosen], items.labels[chosen]
