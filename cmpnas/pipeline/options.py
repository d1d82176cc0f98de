"""The gallery options of a run by name, and the judge against them all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from cmpnas.data.items import Items
from cmpnas.errors import RunError, unknown
from cmpnas.gallery.base import Indexed
from cmpnas.gallery.ensemble import combine
from cmpnas.gallery.option_settings import EnsembleSettings, ViewsSettings
from cmpnas.pipeline.option_stages import FLOAT, AnchorStage, EnsembleStage, MappedStage, OptionStage, ViewsStage
from cmpnas.pipeline.stages import Stages
from cmpnas.search.evaluator import Evaluator
from cmpnas.search.kept import KeptQueries
from cmpnas.search.racing import RacingEvaluator


def open_options(stages: Stages) -> dict[str, OptionStage]:
    """The options of a run by name, the anchor first, then as the recipe lists them; nothing is computed yet."""
    found: dict[str, OptionStage] = {stages.recipe.gallery.name: AnchorStage(stages)}
    ensembles = {}
    for settings in stages.recipe.galleries:
        if isinstance(settings, EnsembleSettings):
            ensembles[settings.name] = settings
        elif isinstance(settings, ViewsSettings):
            found[settings.name] = ViewsStage(stages, settings)
        else:
            found[settings.name] = MappedStage(stages, settings)
    for name, settings in ensembles.items():
        found[name] = EnsembleStage(stages, settings, {member: found[member] for member in settings.members})
    names = [stages.recipe.gallery.name, *(settings.name for settings in stages.recipe.galleries)]
    return {name: found[name] for name in names}


def find_option(stages: Stages, name: str) -> OptionStage:
    """One option of a run.

    Raises:
        RunError: it has none of that name.
    """
    options = open_options(stages)
    if name not in options:
        raise RunError(unknown("gallery option", name, options))
    return options[name]


def kept_queries(stages: Stages) -> KeptQueries:
    """Query embeddings of evaluated architectures, for gallery options that are added later."""
    return KeptQueries(stages.run.queries, stages.recipe.search.keep_mb * 2**20)


def evaluator(stages: Stages, indexed: Mapping[str, Indexed] | None = None) -> Evaluator:
    """The judge of a search's architectures against all its options; it keeps their query embeddings.

    ``indexed`` are the options as they index the search gallery, where they are open already.
    """
    if indexed is None:
        indexed = {name: option.indexed for name, option in open_options(stages).items()}
    racing = stages.recipe.search.racing
    make = Evaluator if racing is None else partial(RacingEvaluator, racing=racing)
    homogeneous = stages.recipe.search.homogeneous == "all"
    return stages.evaluator(indexed, partial(make, homogeneous=homogeneous, keep=kept_queries(stages).save))


def index_options(options: Mapping[str, OptionStage], items: Items) -> dict[str, Indexed]:
    """``items`` as every option would index them; what ensembles share is computed once."""
    known = {
        name: Indexed(stage.option.embed(items, f"embed {name}"))
        for name, stage in options.items()
        if not isinstance(stage, EnsembleStage)
    }
    for name, stage in options.items():
        if isinstance(stage, EnsembleStage):
            members = {member: known[member].gallery for member in stage.members}
            mean, distance = combine(members, stage.settings.members)
            known[name] = Indexed(mean, stage.rejects(distance)[0], distance)
    return {name: known[name] for name in options}


def summary(stage: OptionStage) -> dict[str, Any]:
    """An option as ``front.json`` names it: ``mflops`` and ``index_bytes`` are of indexing one image."""
    return {
        "name": stage.settings.name,
        "kind": stage.settings.kind,
        "mflops": stage.option.mflops,
        "index_bytes": FLOAT * stage.option.embedding_dim,
        "kept_bytes": stage.kept_bytes,
    }
