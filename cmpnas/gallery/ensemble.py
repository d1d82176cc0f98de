"""Several gallery models as one: the mean of their mapped embeddings, and how far they are apart.

Linial et al., WACV 2024: each model has its own map into one space, trained without the others, and what is stored of
an image is one vector. So members come and go without touching each other, and index and query cost what they did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmpnas.data.items import Items
from cmpnas.errors import DataError
from cmpnas.files import whole
from cmpnas.gallery.base import Option
from cmpnas.gallery.option_settings import EnsembleSettings, RejectSettings

_ROWS_AT_ONCE = 65_536
_ZERO = 1e-6  # a shorter sum of unit vectors has no direction in float32


@dataclass(frozen=True)
class EnsembleGallery:
    """A gallery option whose embeddings are the unit weighted mean of its members'."""

    settings: EnsembleSettings
    members: Mapping[str, Option]

    @property
    def mflops(self) -> float:
        """The sum of its members': each embeds every image."""
        return sum(member.mflops for member in self.members.values())

    @property
    def embedding_dim(self) -> int:
        return next(iter(self.members.values())).embedding_dim

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit means of the members' embeddings of ``items``, float32 ``(N, D)``."""
        known = {name: member.embed(items, what) for name, member in self.members.items()}
        return combine(known, self.settings.members)[0]


def combine(
    members: Mapping[str, np.ndarray], weights: Mapping[str, float] | None = None, into: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The unit weighted mean of what each member says of each image, and how much they disagree.

    The disagreement is the mean cosine distance over all pairs of members, a pair weighing the product of its members'
    weights. It needs no pairs: where the weights sum to 1, their squares to ``v``, and the weighted vectors to one of
    length ``s``, it is ``(1 - s^2) / (1 - v)``.

    Args:
        members: by name, unit vectors ``(N, D)`` of the same images in the same order, arrays or memory maps.
        weights: of each member, positive; by default all are equal.
        into: where to write the means, by default a new array.

    Returns:
        float32 ``(N, D)`` and float32 ``(N,)``.

    Raises:
        DataError: there are fewer than two members, they are of other images or widths, a vector is not finite or not
            of unit length, or the vectors of an image cancel out.
    """
    shapes = {name: np.shape(vectors) for name, vectors in members.items()}
    if len(shapes) < 2:
        raise DataError(f"an ensemble has two members or more; there is {', '.join(shapes) or 'none'}.")
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if len(shape) != 2 or shape != shapes[first]:
            raise DataError(
                f"member {name!r} has vectors of shape {shape}, member {first!r} of {shapes[first]}; "
                "members embed the same images into one space."
            )
    rows, width = shapes[first]
    shares = shares_of([1.0 if weights is None else weights[name] for name in shapes])
    alone = sum(share**2 for share in shares)  # of each with itself
    mean = np.empty((rows, width), np.float32) if into is None else into
    distance = np.empty(rows, np.float32)
    for start in range(0, rows, _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, rows))
        total = np.zeros((part.stop - start, width))
        for (name, vectors), share in zip(members.items(), shares, strict=True):
            total += share * _checked(vectors[part], name, start)
        squared = np.einsum("nd,nd->n", total, total)
        if (squared < _ZERO).any():
            row = start + int(np.flatnonzero(squared < _ZERO)[0])
            raise DataError(f"the members' vectors of row {row} cancel out and have no mean direction; leave one out.")
        mean[part] = total / np.sqrt(squared)[:, None]
        distance[part] = np.maximum(0, (1 - squared) / (1 - alone))
    return mean, distance


def shares_of(weights: Sequence[float]) -> list[float]:
    """Positive ``weights`` as shares of their sum."""
    return [weight / sum(weights) for weight in weights]


def rejected(distance: np.ndarray, rule: RejectSettings) -> tuple[np.ndarray, float]:
    """Rows to leave out of the index, ascending, and the largest distance that stays.

    Of equal distances at the edge of a coverage, the earlier rows stay.

    Args:
        distance: float ``(N,)``, as `combine` gives it.

    Raises:
        DataError: nothing would stay.
    """
    if rule.distance is not None:
        out = np.flatnonzero(distance > rule.distance)
    else:
        order = np.argsort(distance, kind="stable")
        out = np.sort(order[_stays(len(distance), rule.coverage or 1.0) :])
    if len(out) == len(distance):
        raise DataError(
            f"the members of the ensemble are farther apart than {rule.distance:g} on each of {len(distance)} images "
            f"(the least is {distance.min():.4g}); raise reject.distance."
        )
    return out, float(np.delete(distance, out).max())


def write_rejected(path: Path, rows: np.ndarray, items: np.ndarray, distance: np.ndarray, limit: float) -> None:
    """A CSV of what is not in the index, and why: its row, its item in the data set, its distance, the limit.

    Args:
        rows, items: int64 ``(R,)``.
        distance: float ``(R,)``.
    """
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("row,item,distance,limit\n")
        np.savetxt(file, np.column_stack([rows, items, distance]), fmt=("%d", "%d", f"%.9g,{limit:.9g}"), delimiter=",")


def _stays(n: int, coverage: float) -> int:
    return max(1, int(np.ceil(coverage * n - 1e-9)))


def _checked(vectors: np.ndarray, name: str, start: int) -> np.ndarray:
    lengths = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    if not np.isfinite(lengths).all():
        row = start + int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise DataError(f"member {name!r} holds NaN or infinity, first in row {row}; embed again.")
    if (np.abs(lengths - 1) > 1e-2).any():
        row = int(np.flatnonzero(np.abs(lengths - 1) > 1e-2)[0])
        length = f"{lengths[row] ** 0.5:.4g}"
        raise DataError(f"member {name!r} has a vector of length {length} in row {start + row}; scale all to 1.")
    return vectors
