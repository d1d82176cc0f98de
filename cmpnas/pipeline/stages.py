"""The stages of one run, each computed on first use, kept in the run folder and reused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch

from cmpnas.cost.onnx import hash_onnx
from cmpnas.data import Splits, load_splits
from cmpnas.distributed import agree, first_alone
from cmpnas.errors import RunError
from cmpnas.files import hash_file, hash_of, read_json, write_json
from cmpnas.gallery.base import Embedded, Gallery, Indexed
from cmpnas.gallery.brought import open_model
from cmpnas.gallery.frozen import FrozenModel
from cmpnas.gallery.settings import (
    AnyBrought,
    AnyGallery,
    BroughtSettings,
    FusionSettings,
    PrecomputedSettings,
)
from cmpnas.gallery.sources import FeatureSource
from cmpnas.models.network import Network, build_network
from cmpnas.models.supernet import Supernet
from cmpnas.pipeline.fusion import open_sources
from cmpnas.pipeline.kinds import made_of, open_gallery
from cmpnas.pipeline.lessons import Lessons, of_picks, of_pool
from cmpnas.pipeline.pretrained import find_pretrained, read_pretrained
from cmpnas.recipe import Recipe
from cmpnas.run import RunFolder
from cmpnas.search.evaluator import Evaluator, score_pair
from cmpnas.search.records import Record, RecordLog
from cmpnas.space import Arch, SearchSpace
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.mixing import Mixing
from cmpnas.train.supernet import train_supernet

Say = Callable[[str], None]


@dataclass
class Stages:
    """The stages of one run, each computed on first use and kept in the run folder."""

    run: RunFolder
    splits: Splits
    data: str | None
    say: Say

    @staticmethod
    def of_run(path: Path, data: str | None, say: Say) -> Stages:
        """The stages of a run that exists.

        Raises:
            CmpnasError: ``path`` is not a run folder, or the data are not those it was made from.
        """
        run = RunFolder.open(path)
        splits = load_splits(run.recipe.data, data)
        run.must_be_of(splits.fingerprint, "name the right folder with --data")
        return Stages(run, splits, data, say)

    def of(self, settings: AnyGallery) -> Stages:
        """The stages of the same run with another gallery model in the anchor's place: its folder, its own space."""
        recipe = self.recipe.model_copy(update={"gallery": settings, "galleries": ()})
        return Stages(RunFolder(self.run.path, recipe), self.splits, self.data, self.say)

    @property
    def recipe(self) -> Recipe:
        return self.run.recipe

    @cached_property
    def gallery_key(self) -> str:
        """Key of everything that the gallery model was made of."""
        # What is exempt changes nothing: where features are kept, and how embeddings are mapped afterwards.
        content = self.recipe.gallery.model_dump(mode="json", exclude={"bank", "transform"})
        return hash_of(content, made_of(self), self.splits.fingerprint, self.recipe.seed)

    @cached_property
    def query_side(self) -> tuple[Any, ...]:
        """Everything but the gallery option that the supernet is made of; how picks are finished is no part of it."""
        recipe = self.recipe
        query = recipe.query.model_dump(mode="json", exclude={"train"}, exclude_none=True)
        pretrained = find_pretrained(recipe, self.data)
        if pretrained is not None:
            query["pretrained"]["file"] = hash_onnx(pretrained)
        space, limits = self.space.fingerprint, dict[str, Any](recipe.search.budget.to_json())
        if "latency_ms" in limits and self.space.latency_table is not None:
            limits["latency_table"] = self.space.latency_table.key
        return query, space, limits

    @cached_property
    def supernet_key(self) -> str:
        """Key of everything that the supernet was made of."""
        return hash_of(self.gallery_key, *self.query_side, self.recipe.seed)

    @cached_property
    def scores_key(self) -> str:
        """Key of all that scores and costs of architectures depend on and the recipe does not say."""
        table = self.space.latency_table
        return hash_of(self.supernet_key, None if table is None else table.key)

    @cached_property
    def gallery(self) -> Gallery:
        """The gallery option, trained if it is not there yet."""
        return open_gallery(self)

    @cached_property
    def sources(self) -> list[FeatureSource]:
        """What a fusion mixes."""
        return open_sources(self, cast(FusionSettings, self.recipe.gallery))

    @cached_property
    def brought(self) -> FrozenModel:
        """The finished model of a gallery option that the user brings."""
        return open_model(cast(AnyBrought, self.recipe.gallery), self.recipe.data, self.data)

    @cached_property
    def embedded(self) -> Embedded:
        """The gallery option's vectors of train and search images, computed once."""
        folder, key = self.run.gallery, self.run.gallery / "key.json"
        if agree(key.exists()):
            if read_json(key) != self.gallery_key:
                raise RunError(f"{folder} was made from other data or settings; name another --run.")
            return Embedded.load(folder)
        option = self.gallery
        with first_alone() as first:
            if first:
                with self.run.timed("embed"):
                    Embedded.compute(option, self.splits).save(folder)
                write_json(key, self.gallery_key)
        return Embedded.load(folder)

    def prepare(self) -> None:
        """Have everything ready that the search needs, stage by stage: all that several processes do together."""
        _ = self.gallery
        _ = self.embedded
        with first_alone() as first:
            if first:  # rather than after a supernet was trained whose scores cannot stand beside those there are
                RecordLog(self.run.records, self.space).must_be_of(self.scores_key)
        _ = self.supernet

    @cached_property
    def lessons(self) -> Lessons:
        """What the supernet learns from."""
        return of_pool(self)

    @cached_property
    def picks_lessons(self) -> Lessons:
        """What picks are finished on."""
        return of_picks(self)

    @cached_property
    def space(self) -> SearchSpace:
        """The query space, as wide as the gallery's embeddings."""
        settings = self.recipe.gallery
        if isinstance(settings, PrecomputedSettings):
            return self.recipe.space(self.gallery.embedding_dim)
        if isinstance(settings, BroughtSettings) and settings.projection is None:
            return self.recipe.space(self.brought.width)
        return self.recipe.space()

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet."""
        if isinstance(self.recipe.gallery, FusionSettings):
            _ = self.gallery  # which trains both, where they learn jointly
        path = self.run.supernet
        if agree(path.exists()):
            return _load_supernet(self.space, path, self.supernet_key)
        return self.train_supernet(self.lessons)

    def train_supernet(
        self, lessons: Lessons, mixing: Mixing | None = None, keep: Callable[[], None] | None = None
    ) -> Supernet:
        """Train the supernet and keep it; ``keep`` writes what is left of a ``mixing`` before the checkpoint goes."""
        recipe, saved = self.recipe, self.run.supernet_checkpoint(self.supernet_key)
        self.say(f"supernet: training {self.space.name!r} against {recipe.gallery.name!r}")
        with self.run.timed("supernet"):
            supernet = train_supernet(
                self.space,
                lessons.anchor,
                dict(recipe.query.loss),
                lessons.items,
                recipe.query.supernet,
                budget=recipe.search.budget,
                augmentation=recipe.query.augment,
                seed=recipe.seed,
                weights=read_pretrained(recipe, self.data),
                saved=saved,
                workers=recipe.workers,
                mixing=mixing,
            )
            with first_alone() as first:
                if first:
                    if keep is not None:
                        keep()
                    checkpoint.save({"key": self.supernet_key, "shared": supernet.state_dict()}, self.run.supernet)
                    saved.unlink()
        return supernet.eval()

    def evaluator(
        self, galleries: Mapping[str, Indexed] | None = None, make: Callable[..., Evaluator] = Evaluator
    ) -> Evaluator:
        """The judge of this run's architectures, on the search split, by default against the anchor alone."""
        settings = self.recipe.search
        return make(
            self.supernet,
            self.splits.pool,
            self.splits.search,
            galleries or {self.recipe.gallery.name: Indexed(self.embedded.gallery)},
            metric=settings.metric,
            calibration_images=settings.calibration_images,
        )

    def reward(self, record: Record) -> float:
        """What the controller is told of a record."""
        return record.reward(self.recipe.gallery.name, self.recipe.search.reward)

    @property
    def judge_key(self) -> str:
        """Key of everything that a record depends on: workers of one search must agree on it."""
        search = self.recipe.search
        settings = search.model_dump(mode="json", include={"metric", "calibration_images", "racing"}, exclude_none=True)
        if search.homogeneous != "all":
            settings["homogeneous"] = search.homogeneous
        options = [option.model_dump(mode="json") for option in self.recipe.galleries]
        return hash_of(self.scores_key, settings, options, hash_file(self.run.supernet))

    def untrained(self, arch: Arch, seed: int) -> Network:
        """A fresh network of ``arch``, the same for the same seed."""
        torch.manual_seed(seed)
        return build_network(self.space, arch).to(device())

    def paragon(self) -> dict[str, Any]:
        """M(g, g) on the search split: the gallery model on both sides."""
        metric = self.recipe.search.metric
        scores = score_pair(self.embedded.query, self.embedded.gallery, self.splits.search, [metric])
        return {"gallery": self.recipe.gallery.name, "mflops": self.gallery.mflops, "score": scores[metric]}


def _load_supernet(space: SearchSpace, path: Path, key: str) -> Supernet:
    state = checkpoint.load_of(key, path, mapped=True)
    with torch.device("meta"):
        supernet = Supernet(space)
    checkpoint.restore(supernet, state, "shared", path, f"space {space.name!r}", assign=True)
    return supernet.to(device()).eval()
