"""What can be known to be wrong, or said, before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cmpnas.compat import must_have_labels
from cmpnas.cost import Budget
from cmpnas.data import Splits
from cmpnas.data.items import UNLABELLED
from cmpnas.data.load import data_file, data_folder, named_folder
from cmpnas.data.settings import ShopSettings
from cmpnas.distributed import world_size
from cmpnas.errors import BudgetError, CmpnasError, DataError, RecipeError, SpaceError, unknown
from cmpnas.gallery.option_settings import EnsembleSettings, ViewsSettings
from cmpnas.gallery.settings import (
    AnyGallery,
    BroughtSettings,
    FileSettings,
    FusionSettings,
    PrecomputedSettings,
    SingleSettings,
    SoftmaxProjection,
    TimmSettings,
)
from cmpnas.gallery.single import plan_single
from cmpnas.gallery.timm import require_timm
from cmpnas.models.supernet import Supernet
from cmpnas.pipeline.pretrained import read_pretrained
from cmpnas.recipe import Recipe
from cmpnas.retrieval.relevance import Relevance
from cmpnas.search.controllers import read_known
from cmpnas.search.controllers.by_nni import require_nni
from cmpnas.search.evaluator import first_queries
from cmpnas.search.storage import check_storage
from cmpnas.space import SearchSpace, list_spaces
from cmpnas.space.counting import count
from cmpnas.train.device import device

#: Who may evaluate.
ENGINES = ("local", "nni")


def check(recipe: Recipe, data: str | None = None) -> None:
    """Raise at once what can be known to be wrong without reading data; ``data`` is their folder if known."""
    gallery = recipe.gallery
    if named_folder(data) and not isinstance(recipe.data, ShopSettings):
        data_folder(recipe.data.folder, data)
    if recipe.search.controller.startswith("nni:"):
        require_nni()
    joint = isinstance(gallery, FusionSettings) and gallery.joint
    counts = {"views": recipe.query.views, "mixtures": recipe.query.mixtures}
    if looked_at := [f"query.{name} is {count:g}" for name, count in counts.items() if count]:
        for model in recipe.anchors:
            if isinstance(model, PrecomputedSettings):
                raise RecipeError(f"{looked_at[0]}, but gallery {model.name!r} is embeddings without a model; use 0.")
        if joint:
            raise RecipeError(f"{looked_at[0]}, but what is jointly trained sees unchanged pictures; use 0.")
    if joint and recipe.query.pretrained is not None:
        raise RecipeError(
            "query.pretrained starts at what a finished gallery says of pictures, and this one learns jointly; use "
            "gallery.training two_stage, or leave it out."
        )
    if recipe.query.space not in list_spaces():
        _must_build(recipe.space())
    if recipe.embedding_dim is not None:
        space, budget = recipe.space(), recipe.search.budget
        space.require_reachable(budget)
        read_known(recipe.search.known, space, budget)
    for model in _models(recipe):
        if isinstance(model, SingleSettings):
            plan_single(model, recipe.data.size)
        elif isinstance(model, TimmSettings):
            require_timm()
        elif isinstance(model, FileSettings | PrecomputedSettings) and (
            Path(model.file).is_absolute() or named_folder(data)
        ):
            data_file(recipe.data, data, model.file)
    pretrained = recipe.query.pretrained
    if pretrained is not None and (Path(pretrained.file).is_absolute() or named_folder(data)):
        read_pretrained(recipe, data)


def _models(recipe: Recipe) -> list[AnyGallery]:
    """Every gallery model: the anchor's and those beside it."""
    beside = (option for option in recipe.galleries if not isinstance(option, EnsembleSettings | ViewsSettings))
    return [*recipe.anchors, *beside]


def check_engine(engine: str, workers: int | None, storage: str | None, nni_config: Path | None) -> None:
    """Raise if nobody could evaluate, as far as can be said without asking a storage."""
    if engine not in ENGINES:
        raise RecipeError(unknown("engine", engine, ENGINES))
    if workers is not None and workers < (0 if storage else 1):
        raise RecipeError(f"--workers {workers}: at least 1 must evaluate, or be started elsewhere with a --storage.")
    if engine == "nni":
        require_nni()
        if world_size() > 1:
            raise RecipeError("--engine nni starts trials of its own; train with torchrun, then repeat without it.")
        if storage:
            raise RecipeError("--storage is for workers; with --engine nni the training service is in --nni-config.")
    elif nni_config:
        raise RecipeError("--nni-config is for --engine nni.")
    elif storage:
        check_storage(storage)


def _must_build(space: SearchSpace) -> None:
    """Raise a `SpaceError` if the modules of a block, which may be the user's own, cannot be made."""
    try:
        with torch.device("meta"):
            Supernet(space)
    except CmpnasError:
        raise
    except Exception as fault:  # whatever somebody else's code raises
        raise SpaceError(
            f"space {space.name!r} cannot be built ({type(fault).__name__}: {fault}); change the block or its values."
        ) from None


def check_data(recipe: Recipe, splits: Splits) -> None:
    """Raise before anything is trained if a batch is larger than what there is to train on, or cannot be shared; if
    losses need labels that no picture has; if the search split has nothing to find; or if racing cannot be."""
    labelled = bool((splits.pool.labels != UNLABELLED).any())
    must_have_labels(recipe.query.loss, labelled)
    task = splits.search
    if Relevance.of_task(task).hopeless:
        raise DataError("no query of data.search has a relevant picture in its gallery; check labels and sources.")
    if recipe.search.racing is not None:
        first_queries(task, recipe.search.racing)
    count = len(splits.pool) + round(recipe.query.mixtures * len(splits.pool))
    plans = [(recipe.query.supernet, count), (recipe.query.train, count)]
    for model in _models(recipe):
        if isinstance(model, SingleSettings):
            plans.append((model.train, len(splits.train)))
        elif isinstance(model, BroughtSettings) and isinstance(model.projection, SoftmaxProjection):
            plans.append((model.projection.train, len(splits.train)))
        if model.transform is not None:
            plans.append((model.transform.train, len(splits.pool)))
            must_have_labels(model.transform.loss, labelled)
    if isinstance(recipe.gallery, FusionSettings) and recipe.gallery.train is not None:
        plans.append((recipe.gallery.train, len(splits.train)))
    for plan, items in plans:
        plan.must_fit(items)


def describe_budget(space: SearchSpace, recipe: Recipe) -> str:
    """One line on what the budget means for the space."""
    smallest, largest = space.extremes()
    low, high = space.cost(smallest).mflops, space.cost(largest).mflops
    reach = f"space {space.name!r} at {space.size} px reaches {low:.4g} to {high:.4g} MFLOPs"
    budget, fastest, slowest = recipe.search.budget, space.lattice.least[0], space.lattice.most[0]
    if fastest.latency_ms is not None:
        reach += f", {fastest.latency_ms:.4g} to {slowest.latency_ms:.4g} ms"
    if budget.allows(slowest):
        return f"{reach}; the budget ({budget}) does not bind: the largest architecture is {largest.id}"
    return f"{reach}; the budget ({budget}) admits {_feasible(space, budget)} of {space.count():,} architectures"


def _feasible(space: SearchSpace, budget: Budget) -> str:
    """How many architectures fit, or that they are too many to count."""
    try:
        return f"{count(space.lattice, budget):,}"
    except BudgetError:
        return "an uncounted number"


def dry_run(recipe: Recipe, data: str | None = None) -> dict[str, Any]:
    """What `search` would do, without reading pictures or writing files; raises what `check` raises."""
    check(recipe, data)
    space = recipe.space()
    budget = recipe.search.budget
    smallest, largest = space.extremes()
    return {
        "recipe": recipe.name,
        "space": space.name,
        "size": space.size,
        "architectures": space.count(),
        "embedding_dim": recipe.embedding_dim,
        "feasible": _feasible(space, budget),
        "mflops": [space.cost(smallest).mflops, space.cost(largest).mflops],
        "budget": budget.to_json(),
        "controller": recipe.search.controller,
        "evaluations": recipe.search.trials,
        "known": len(recipe.search.known),
        "gallery": recipe.gallery.name,
        "galleries": [option.name for option in recipe.galleries],
        "stages": ["gallery", "embed", "supernet", "search", "front"],
        "device": str(device()),
        "threads": torch.get_num_threads(),
    }
