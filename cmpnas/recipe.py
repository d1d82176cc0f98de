"""A recipe: everything that a run depends on, checked in full before anything is computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from cmpnas.compat import LOSSES
from cmpnas.compat.weights import LossWeights
from cmpnas.cost.latency import read_latency_table
from cmpnas.data.augment import Augment
from cmpnas.data.settings import AnyData
from cmpnas.errors import RecipeError, unknown
from cmpnas.gallery.option_settings import AnyOption, EnsembleSettings, ViewsSettings
from cmpnas.gallery.settings import (
    AnyGallery,
    BroughtSettings,
    FusionSettings,
    PrecomputedSettings,
    SingleSettings,
    Spread,
    Unit,
)
from cmpnas.problems import read_yaml, validate
from cmpnas.resources import find, names
from cmpnas.search.settings import SearchSettings, TextSearchSettings, metric_name
from cmpnas.space import SearchSpace, list_spaces, load_space
from cmpnas.strict import Strict
from cmpnas.text.settings import AnyRegions, CaptionSettings, CoarseSettings, FineSettings, KarpathySettings
from cmpnas.text.space import TextSpace
from cmpnas.train.loop import Plan
from cmpnas.train.supernet import SupernetPlan

#: Keys whose value may be the name of a file, and how such a name ends.
_FILES: dict[str, str | tuple[str, ...]] = {"latency_table": "", "space": (".yaml", ".yml")}


class PretrainedSettings(Strict):
    """An ONNX file, absolute or below the data folder, of the query space's largest network.

    ``mean`` and ``std`` of red, green and blue in 0..1 are those it was trained with, by default one half.
    """

    file: Annotated[str, Field(min_length=1)]
    mean: tuple[Unit, Unit, Unit] = (0.5, 0.5, 0.5)
    std: tuple[Spread, Spread, Spread] = (0.5, 0.5, 0.5)


class QuerySettings(Strict):
    """The query side: what is searched, how it learns, how the pick is finished.

    ``pretrained`` names finished weights that the supernet starts from. ``loss`` maps names of losses to weights. A
    network is shown augmented pictures; with ``views`` 0 its target is the gallery's embedding of the unchanged
    picture, else there are so many views of each, each with its own target. ``mixtures`` are blends of two pictures
    that are learned from as well, in pictures of ``data.pool``: 1 for as many.
    """

    space: str
    pretrained: PretrainedSettings | None = None
    loss: LossWeights
    augment: Augment = Augment()
    views: Annotated[int, Field(ge=0)] = 0
    mixtures: Annotated[float, Field(ge=0, le=64)] = 0.0
    supernet: SupernetPlan
    train: Plan

    @field_validator("space")
    @classmethod
    def _space_exists(cls, value: str) -> str:
        if ":" not in value and not value.endswith((".yaml", ".yml")) and value not in list_spaces():
            raise ValueError(unknown("space", value, list_spaces()))
        return value


class Experiment(Strict, ABC):
    """What every recipe says."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    workers: Annotated[int, Field(ge=0)] = 0

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What makes a run another run: not more trials, nor how picks are finished and reported."""

    def to_yaml(self) -> str:
        """The resolved recipe as a file that `load_recipe` reads."""
        content = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


class TextRecipe(Experiment):
    """Texts ask for pictures: a coarse and a fine model, and the coarse text encoder that is searched."""

    task: Literal["text"]
    data: Annotated[AnyData | KarpathySettings, Field(discriminator="reader")]
    captions: CaptionSettings = CaptionSettings()
    regions: AnyRegions
    fine: FineSettings
    coarse: CoarseSettings
    search: TextSearchSettings = TextSearchSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        brought = isinstance(self.data, KarpathySettings)
        if brought != (self.regions.kind == "given"):
            raise ValueError("regions of kind 'given' belong to reader 'karpathy', and other kinds to other readers")
        if not brought and not self.captions.query:
            raise ValueError("captions.query: a template on the data's columns is required, as '{name}'")
        if getattr(self.data, "finish", None) is not None:
            raise ValueError("data.finish: text encoders learn from data.train alone; leave it out")
        known = self.fine.dim * self.fine.members
        if self.coarse.pool == "summary" and self.coarse.dim > known:
            raise ValueError(f"coarse.dim: the fine model's summaries have {known} numbers; {self.coarse.dim} is more")
        return self

    def space(self) -> SearchSpace:
        """The coarse text encoders, at this recipe's number of tokens."""
        return SearchSpace(TextSpace(self.coarse.space, self.captions.max_tokens), embedding_dim=self.coarse.dim)

    def identity(self) -> dict[str, Any]:
        content = self.model_dump(mode="json", exclude={"workers"})
        for key in ("trials", "within", "budget_latency_ms"):
            content["search"].pop(key)
        content["coarse"].pop("train")
        content["data"].pop("finish", None)  # of pictures alone
        return content


class Recipe(Experiment):
    """The whole experiment.

    ``gallery`` is the anchor, whose space query networks learn; ``galleries`` are further options, each mapped into it.
    """

    data: AnyData
    gallery: AnyGallery
    galleries: tuple[AnyOption, ...] = ()
    query: QuerySettings
    search: SearchSettings = SearchSettings()
    report: Annotated[tuple[str, ...], Field(min_length=1)] = ("map@r", "map_full", "hit@1", "hit@10")

    @field_validator("report")
    @classmethod
    def _metrics_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(metric_name(name) for name in value)

    @model_validator(mode="after")
    def _losses_bear_a_moving_gallery(self) -> Self:
        if isinstance(self.gallery, FusionSettings) and self.gallery.joint:
            for name in self.query.loss:
                if "frozen" in LOSSES[name].needs:
                    others = ", ".join(other for other, loss in LOSSES.items() if "frozen" not in loss.needs)
                    raise ValueError(
                        f"query.loss.{name} needs a frozen gallery, and this one learns jointly; use gallery.training "
                        f"two_stage, or of the losses: {others}"
                    )
        return self

    @model_validator(mode="after")
    def _galleries_fit(self) -> Self:
        options = (self.gallery, *self.galleries)
        named = [option.name for option in options]
        if twice := [name for n, name in enumerate(named) if name in named[:n]]:
            raise ValueError(f"two gallery options are called {twice[0]!r}; give each its own name")
        if self.gallery.transform is not None:
            raise ValueError(
                f"gallery {self.gallery.name!r} is the anchor, whose space is learned: it has no transform"
            )
        models = [option.name for option in options if not isinstance(option, EnsembleSettings)]
        for option in self.galleries:
            if isinstance(option, EnsembleSettings):
                for name in option.members:
                    if name not in models:
                        raise ValueError(f"gallery {option.name!r}: {unknown('member', name, models)}")
            elif isinstance(option, ViewsSettings):
                if saved := [model.name for model in self.anchors if isinstance(model, PrecomputedSettings)]:
                    raise ValueError(
                        f"gallery {option.name!r} is of views of pictures, which {saved[0]!r}, of saved embeddings, "
                        "never sees; leave it out"
                    )
            elif option.transform is None:
                raise ValueError(f"gallery {option.name!r} needs a transform into the space of {self.gallery.name!r}")
        return self

    @property
    def anchors(self) -> Sequence[AnyGallery]:
        """The anchor, or the models that are mixed in it."""
        return self.gallery.sources if isinstance(self.gallery, FusionSettings) else (self.gallery,)

    @property
    def embedding_dim(self) -> int | None:
        """Width of the gallery's embeddings; None where only its model or file knows."""
        if isinstance(self.gallery, SingleSettings | FusionSettings):
            return self.gallery.embedding_dim
        if isinstance(self.gallery, BroughtSettings) and self.gallery.projection is not None:
            return self.gallery.projection.dim
        return None

    def space(self, embedding_dim: int | None = None) -> SearchSpace:
        """The query space at this recipe's input size and the gallery's embedding width, timed if there is a table."""
        space = load_space(self.query.space, size=self.data.size, embedding_dim=self.embedding_dim or embedding_dim)
        table = self.search.latency_table
        return space if table is None else space.timed(read_latency_table(Path(table)))

    def identity(self) -> dict[str, Any]:
        # Nor more gallery options: they are judged with the query embeddings that are kept.
        content = self.model_dump(mode="json", exclude={"workers", "report", "galleries"})
        for name in ("trials", "indexed_per_query", "keep_mb", "homogeneous"):  # which no controller is told
            content["search"].pop(name)
        content["query"].pop("train")
        content["data"].pop("finish")
        content["gallery"].pop("bank", None)
        return content


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return names("recipes")


def load_recipe(name: str, overrides: Sequence[str] = (), flags: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe by name or path, with ``key.key=value`` overrides and then ``flags``.

    Raises:
        RecipeError: it does not exist, is of texts, or something in it is wrong; all mistakes are listed.
    """
    found = load_any_recipe(name, overrides, flags)
    if isinstance(found, TextRecipe):
        raise RecipeError(f"{name} is a recipe of texts (task: text); here one of pictures is needed.")
    return found


def load_any_recipe(
    name: str, overrides: Sequence[str] = (), flags: dict[str, Any] | None = None
) -> Recipe | TextRecipe:
    """`load_recipe` of pictures or of texts."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else find("recipes", name)
    if path is None:
        raise RecipeError(unknown("recipe", name, list_recipes(), "Try: cmpnas ls recipes, or give a .yaml file."))
    content = _located(read_yaml(path, RecipeError), path.parent)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set takes key=value, as in --set search.trials=50; got {override!r}.")
        _put(content, key.split("."), _parse(override, value))
    for key, value in (flags or {}).items():
        if value is not None:
            _put(content, key.split("."), value)
    gallery = content.get("gallery")
    if isinstance(gallery, dict) and isinstance(gallery.get("bank"), str):  # which need not be there yet
        gallery["bank"] = str(Path(gallery["bank"]).absolute())
    return check_recipe(_located(content, Path()), str(path))


def check_recipe(content: dict[str, Any], where: str) -> Recipe | TextRecipe:
    """Check the content of a recipe; ``where`` names it in the error."""
    if "task" in content:
        return validate(TextRecipe, content, where, RecipeError)
    return validate(Recipe, content, where, RecipeError)


def _located(content: Any, folder: Path) -> Any:
    """``content`` with the files in ``folder`` that it names made absolute: the commands that go on with a run may be
    given elsewhere."""
    if isinstance(content, list):
        return [_located(part, folder) for part in content]
    if not isinstance(content, dict):
        return content
    found = {key: _located(part, folder) for key, part in content.items()}
    for key, ending in _FILES.items():
        name = found.get(key)
        if isinstance(name, str) and name.endswith(ending) and (folder / name).is_file():
            found[key] = str((folder / name).absolute())
    return found


def _parse(override: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: the value is not valid YAML.") from None


def _put(content: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = content.setdefault(key, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"cannot set {'.'.join(keys)}: {key!r} holds {inner!r}, not a section.")
        content = inner
    content[keys[-1]] = value
