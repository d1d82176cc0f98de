"""Queries with what two systems retrieve for them, as small pictures that a page holds within itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmpnas.data.items import Items, Protocol
from cmpnas.retrieval.relevance import NOBODY, Relevance

_SIDE = 96  # pixels
_GROUPS = (
    (True, False, "Only what the paragon finds first is relevant", 4),
    (False, True, "Only what the pair finds first is relevant", 2),
    (False, False, "Neither is relevant", 1),
    (True, True, "Both are relevant", 1),
)


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, its label, and whether it is relevant to the query."""

    src: str
    label: int
    relevant: bool


@dataclass(frozen=True)
class Retrieved:
    """The first items that one system finds."""

    name: str
    items: list[Picture]


@dataclass(frozen=True)
class Example:
    """One query, and what each system finds."""

    query: Picture
    systems: list[Retrieved]


@dataclass(frozen=True)
class Group:
    """Examples on whose first item the two systems agree or not in one way."""

    title: str
    examples: list[Example]


def choose(task: Protocol, rows: np.ndarray, found: Mapping[str, np.ndarray]) -> tuple[list[Group], str]:
    """Queries that show where two systems disagree, each in pictures; and how many there are of each kind.

    Args:
        rows: int64 ``(Q,)``, queries of ``task``; those without a relevant gallery item are passed over.
        found: of the paragon and the pair, in this order, what `cmpnas.retrieval.nearest.nearest` gives, by the name
            to show.
    """
    labels = task.query.labels[rows]
    relevance = Relevance.of_task(task)
    known = (relevance.padded(rows)[0] != NOBODY).any(1)
    first, second = ((task.gallery.labels[hits[:, 0]] == labels) & (hits[:, 0] >= 0) for hits in found.values())
    groups, counts = [], []
    for left, right, title, most in _GROUPS:
        members = np.flatnonzero(known & (first == left) & (second == right))
        counts.append(f"{title[0].lower()}{title[1:]}: {len(members)}")
        if len(members):
            spread = members[np.unique(np.linspace(0, len(members) - 1, min(most, len(members))).astype(int))]
            groups.append(Group(f"{title} ({len(members)})", [_example(task, rows, n, found) for n in spread]))
    return groups, f"{known.sum()} queries of the search split: " + ", ".join(counts)


def _example(task: Protocol, rows: np.ndarray, n: int, found: Mapping[str, np.ndarray]) -> Example:
    label = int(task.query.labels[rows[n]])
    query = _pictures(task.query, rows[n : n + 1], label)[0]
    systems = {name: hits[n][hits[n] >= 0] for name, hits in found.items()}
    return Example(query, [Retrieved(name, _pictures(task.gallery, hits, label)) for name, hits in systems.items()])


def _pictures(items: Items, rows: np.ndarray, label: int) -> list[Picture]:
    pixels = items.images.read(rows).permute(0, 2, 3, 1).numpy()
    return [
        Picture(_data_uri(image), int(own), bool(own == label))
        for image, own in zip(pixels, items.labels[rows], strict=True)
    ]


def _data_uri(pixels: np.ndarray) -> str:
    """A JPEG of at most 96 px, or a PNG where that is no larger: small pictures of few colours stay sharp."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    encoded = {}
    for kind in ("jpeg", "png"):
        file = io.BytesIO()
        image.save(file, kind, **({"quality": 82} if kind == "jpeg" else {"optimize": True}))
        encoded[kind] = file.getvalue()
    kind = min(encoded, key=lambda name: len(encoded[name]))
    return f"data:image/{kind};base64,{base64.b64encode(encoded[kind]).decode()}"
