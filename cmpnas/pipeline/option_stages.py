"""A gallery option of a run, made once and kept: the anchor, and what is mapped into its space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from cmpnas.distributed import agree, first_alone
from cmpnas.errors import RunError
from cmpnas.files import hash_of, read_json, read_npy, whole, write_json, write_npy
from cmpnas.gallery.base import Indexed, Option, anchor
from cmpnas.gallery.ensemble import EnsembleGallery, combine, rejected, write_rejected
from cmpnas.gallery.option_settings import EnsembleSettings, ViewsSettings
from cmpnas.gallery.settings import AnyGallery
from cmpnas.gallery.transform import MappedGallery, load_transform, train_transform
from cmpnas.gallery.views import ViewsGallery
from cmpnas.pipeline.stages import Stages
from cmpnas.retrieval import GalleryIndex

FLOAT = 4  # bytes


class OptionStage(Protocol):
    """One gallery option of a run.

    Attributes:
        settings: the recipe's.
        folder: where its index is, in the anchor's space.
        key: of everything that it was made of.
        option: the finished option, trained on first use.
        indexed: the search gallery as it indexes it, computed on first use.
        kept_bytes: an image, beside the index, so that members and query models can change without the images.
    """

    @property
    def settings(self) -> AnyGallery | EnsembleSettings | ViewsSettings: ...
    @property
    def folder(self) -> Path: ...
    @property
    def key(self) -> str: ...
    @property
    def option(self) -> Option: ...
    @property
    def indexed(self) -> Indexed: ...
    @property
    def kept_bytes(self) -> int: ...


@dataclass
class AnchorStage:
    """The option whose space is learned."""

    stages: Stages
    kept_bytes = 0

    @property
    def settings(self) -> AnyGallery:
        return self.stages.recipe.gallery

    @property
    def folder(self) -> Path:
        return self.stages.run.gallery

    @property
    def key(self) -> str:
        return self.stages.gallery_key

    @property
    def option(self) -> Option:
        return self.stages.gallery

    @property
    def indexed(self) -> Indexed:
        return Indexed(self.stages.embedded.gallery)


@dataclass
class MappedStage:
    """A gallery model in its own space, made as an anchor is, and a transform into the anchor's."""

    stages: Stages
    settings: AnyGallery

    @cached_property
    def own(self) -> Stages:
        """The stages that make the model and its own embeddings."""
        return self.stages.of(self.settings)

    @property
    def folder(self) -> Path:
        return self.own.run.gallery / "mapped"

    @cached_property
    def key(self) -> str:
        plan = self.settings.model_dump(mode="json", include={"transform"})
        return hash_of(self.own.gallery_key, plan, self.stages.gallery_key)

    @cached_property
    def option(self) -> MappedGallery:
        """The model and its transform, which is trained on the embeddings of the pool by both models."""
        _claim(self.folder, self.key)
        stages, path, plan = self.stages, self.folder / "transform.pt", self.settings.transform
        if plan is None:
            raise RunError(f"gallery {self.settings.name!r} has no transform; see the recipe.")
        if agree(not path.exists()):
            stages.say(f"gallery: training a transform of {self.settings.name!r} into {stages.recipe.gallery.name!r}")
            known = anchor(stages.gallery, stages.embedded, stages.splits.pool, stages.splits.train)
            with stages.run.timed("transform"):
                train_transform(self.settings.name, plan, self.own.embedded.pool, known, path)
        model = self.own.gallery
        return MappedGallery(model, load_transform(plan, model.embedding_dim, stages.gallery.embedding_dim, path))

    @cached_property
    def indexed(self) -> Indexed:
        option, source = self.option, self.own.embedded.gallery

        def make() -> None:
            vectors = option.transform.apply_to(source, _new(self.folder, len(source), option.embedding_dim))
            _save_index(GalleryIndex.build(vectors), self.folder)

        _once(self.folder, make)
        return Indexed(_load(self.folder, "gallery"))

    @property
    def kept_bytes(self) -> int:
        return FLOAT * self.own.gallery.embedding_dim


@dataclass
class ViewsStage:
    """The anchor's mean of several views of each image."""

    stages: Stages
    settings: ViewsSettings
    kept_bytes = 0

    @property
    def folder(self) -> Path:
        return self.stages.run.path / "gallery" / self.settings.name

    @cached_property
    def key(self) -> str:
        return hash_of(self.settings.model_dump(mode="json"), self.stages.gallery_key)

    @cached_property
    def option(self) -> ViewsGallery:
        _claim(self.folder, self.key)
        return ViewsGallery(self.settings, self.stages.gallery)

    @cached_property
    def indexed(self) -> Indexed:
        option, what = self.option, f"embed {self.settings.name}"

        def make() -> None:
            with self.stages.run.timed(what):
                vectors = option.embed(self.stages.splits.search.gallery, what)
            write_npy(self.folder / "gallery.npy", vectors)
            _save_index(GalleryIndex.build(vectors), self.folder)

        _once(self.folder, make)
        return Indexed(_load(self.folder, "gallery"))


@dataclass
class EnsembleStage:
    """The mean of other options' vectors; what each of them computed stays as it is."""

    stages: Stages
    settings: EnsembleSettings
    members: Mapping[str, OptionStage]

    @property
    def folder(self) -> Path:
        return self.stages.run.path / "gallery" / self.settings.name

    @cached_property
    def key(self) -> str:
        return hash_of(self.settings.model_dump(mode="json"), [member.key for member in self.members.values()])

    @cached_property
    def option(self) -> EnsembleGallery:
        _claim(self.folder, self.key)
        return EnsembleGallery(self.settings, {name: member.option for name, member in self.members.items()})

    def rejects(self, distance: np.ndarray) -> tuple[np.ndarray | None, float]:
        """The rows that the rule leaves out, None where there is no rule, and the largest distance that stays."""
        rule = self.settings.reject
        return (None, float(distance.max())) if rule is None else rejected(distance, rule)

    @cached_property
    def indexed(self) -> Indexed:
        members = {name: member.indexed.gallery for name, member in self.members.items()}

        def make() -> None:
            shape = next(iter(members.values())).shape
            mean, distance = combine(members, self.settings.members, _new(self.folder, *shape))
            out, limit = self.rejects(distance)
            write_npy(self.folder / "distance.npy", distance)
            if out is not None:
                items = self.stages.splits.search.gallery.rows[out]
                write_rejected(self.folder / "rejected.csv", out, items, distance[out], limit)
            _save_index(GalleryIndex.build(mean, without=out), self.folder)

        _claim(self.folder, self.key)
        _once(self.folder, make)
        distance = _load(self.folder, "distance")
        return Indexed(_load(self.folder, "gallery"), self.rejects(distance)[0], distance)

    @property
    def kept_bytes(self) -> int:
        """What the members keep, and each one's mapped vector: the mean is made anew from these."""
        return sum(member.kept_bytes + FLOAT * self.option.embedding_dim for member in self.members.values())


def _claim(folder: Path, key: str) -> None:
    """Say what the folder is to be made of, before anything is in it.

    Raises:
        RunError: it was to be of something else.
    """
    mark = folder / "key.json"
    with first_alone() as first:
        if first and not mark.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(mark, key)
    if read_json(mark) != key:
        raise RunError(f"{folder} was made with other data, settings or members; give the gallery option another name.")


def _once(folder: Path, make: Callable[[], None]) -> None:
    """Have the first process ``make`` the vectors and the index of ``folder``, unless the index, the last, is there."""
    if agree(not (folder / "index.faiss").exists()):
        with first_alone() as first:
            if first:
                make()


def _new(folder: Path, n: int, width: int) -> np.ndarray:
    """The file of an option's vectors, still to be written."""
    return np.lib.format.open_memmap(folder / "gallery.npy", mode="w+", dtype=np.float32, shape=(n, width))


def _save_index(index: GalleryIndex, folder: Path) -> None:
    with whole(folder / "index.faiss") as partial:
        index.save(partial)


def _load(folder: Path, name: str) -> np.ndarray:
    return read_npy(folder / f"{name}.npy", f"delete {folder} and use --resume")
