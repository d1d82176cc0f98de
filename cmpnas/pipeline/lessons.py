"""What query networks learn from: pictures, blends of them, and what the gallery model says of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cmpnas.compat import Anchor
from cmpnas.data.images import in_memory
from cmpnas.data.items import UNLABELLED, Items, concatenate
from cmpnas.data.mixtures import with_mixtures
from cmpnas.data.table import Part
from cmpnas.files import hash_of, write_npy
from cmpnas.gallery.base import anchor, embed_views
from cmpnas.pipeline.once import once

if TYPE_CHECKING:
    from cmpnas.pipeline.stages import Stages


@dataclass(frozen=True)
class Lessons:
    """Pictures and the space to learn, whose targets are of them."""

    items: Items
    anchor: Anchor


def of_pool(stages: Stages) -> Lessons:
    """What the supernet learns from: the pool, and blends of its pictures if the recipe has any."""
    known, folder, key = stages.embedded, stages.run.gallery, stages.gallery_key
    items = _with_blends(stages, stages.splits.pool)
    space = anchor(
        stages.gallery, replace(known, pool=_said(stages, items, known.pool, folder, key)), items, stages.splits.train
    )
    return Lessons(items, replace(space, views=views(stages, items, folder, key)))


def of_picks(stages: Stages) -> Lessons:
    """What finished networks learn from: the same, and ``data.finish`` if the recipe has any."""
    known, beside = stages.lessons, stages.splits.beside
    if beside is None:
        return known
    folder, key = stages.run.gallery / "finish", hash_of(stages.gallery_key, beside.fingerprint)
    pictures = replace(beside.items, images=in_memory(beside.items.images, stages.recipe.data.size))

    def make() -> None:
        stages.say(f"gallery: embedding {len(pictures):,} more images")
        with stages.run.timed("embed more"):
            write_npy(folder / "pool.npy", stages.gallery.embed(pictures, "embed more"))

    items = _with_blends(stages, pictures)
    said = _said(stages, items, once(folder / "pool.npy", key, make), folder, key)
    space = known.anchor
    together = replace(
        space,
        embeddings=torch.from_numpy(np.concatenate([space.embeddings.numpy(), said])),
        labels=torch.cat([space.labels, torch.full((len(items),), UNLABELLED)]),
        views=space.views + views(stages, items, folder, key, first=len(known.items)),
    )
    return Lessons(concatenate([known.items, items]), together)


def _with_blends(stages: Stages, pictures: Items) -> Items:
    times = stages.recipe.query.mixtures
    return with_mixtures(pictures, times) if times else pictures


def _said(stages: Stages, items: Items, own: np.ndarray, folder: Path, key: str) -> np.ndarray:
    """What the gallery model says of pictures, ``own``, and of the blends after them, computed once in ``folder``.

    ``key`` is of the gallery model and the pictures.
    """
    path, blends = folder / "mixtures.npy", len(items) - len(own)

    def make() -> None:
        stages.say(f"gallery: embedding {blends:,} mixtures of two images")
        with stages.run.timed("mixtures"):
            rows = len(own) + np.arange(blends)
            part = Items(Part(items.images, rows), items.labels[rows], None, items.rows[rows])
            write_npy(path, stages.gallery.embed(part, "embed mixtures"))

    return np.concatenate([own, once(path, hash_of(key, blends), make, "use --resume")]) if blends else own


def views(stages: Stages, items: Items, folder: Path, key: str, first: int = 0) -> tuple[np.ndarray, ...]:
    """What the gallery model says of augmented views of ``items``, computed once in ``folder``; none where the recipe
    has none.

    ``key`` is of that model and the items; ``first`` is the number of the first item among all that are learned from.
    """
    query, path = stages.recipe.query, folder / "views.npy"
    if not query.views:
        return ()

    def make() -> None:
        stages.say(f"gallery: embedding {query.views} views of {len(items):,} images")
        with stages.run.timed("views"):
            embed_views(stages.gallery, items, query.augment, query.views, path, first=first)

    plan = query.model_dump(mode="json", include={"augment", "views", "mixtures"})
    return (once(path, hash_of(key, plan), make, "use --resume"),)
