"""From a recipe to a front."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cmpnas.cost import Budget
from cmpnas.data import Splits, load_splits
from cmpnas.data.items import Steps
from cmpnas.data.load import data_file, named_folder
from cmpnas.distributed import first_alone, together
from cmpnas.errors import BudgetError, RecipeError, unknown
from cmpnas.files import write_json
from cmpnas.gallery.settings import (
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
from cmpnas.pipeline import nni_engine
from cmpnas.pipeline import workers as local_workers
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.progress import track
from cmpnas.recipe import Recipe
from cmpnas.report.plot import plot_front
from cmpnas.report.results import Searched
from cmpnas.run import RunFolder
from cmpnas.search import rounds
from cmpnas.search.controllers import make_controller
from cmpnas.search.controllers.by_nni import require_nni
from cmpnas.search.front import build_front
from cmpnas.search.records import Ahead, Record, RecordLog
from cmpnas.search.rounds import Judge
from cmpnas.search.storage import open_storage
from cmpnas.space import SearchSpace
from cmpnas.space.counting import count
from cmpnas.train.device import device

#: Who may evaluate.
ENGINES = ("local", "nni")


@together()
def search(
    recipe: Recipe,
    path: Path,
    *,
    data: str | None = None,
    resume: bool = False,
    workers: int | None = None,
    storage: str | None = None,
    engine: str = "local",
    nni_config: Path | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Run ``recipe`` in the folder ``path`` up to its front, and return the content of ``front.json``.

    Under ``torchrun`` all processes train; then the first one searches, and the others return an empty result.

    Args:
        workers: processes of this machine that evaluate; by default this one does, or, where there is a storage, those
            that are started elsewhere.
        storage: where workers find their tasks (`cmpnas.search.storage`), by default a file in the run folder.
        engine: with ``nni`` the evaluating is done by trials of an NNI experiment, ``workers`` at a time.
        nni_config: that experiment's file, which names its training service; by default trials run on this machine.

    Raises:
        CmpnasError: a mistake of the user's; nothing that was computed is lost.
    """
    check(recipe, data)
    _check_engine(engine, workers, storage, nni_config)
    splits = load_splits(recipe.data, data)
    stages = Stages(RunFolder(path, recipe), splits, data, say)
    stages.space.require_reachable(recipe.search.budget)
    _check_batches(recipe, splits)
    with first_alone() as first:
        run = stages.run
        if first:
            run = RunFolder.begin(path, recipe, resume=resume, data=splits.fingerprint)
    with run.locked():
        say(describe_budget(stages.space, recipe))
        stages.prepare()
        if not first:
            return {}
        with run.timed("search"), _judge(stages, engine, workers, storage, nni_config) as (judge, found):
            records = _search(stages, judge, found, many=bool(storage) or (workers or 1) > 1)
        with run.timed("front"):
            front = build_front(
                records,
                recipe=recipe.name,
                budget=recipe.search.budget,
                metric=recipe.search.metric,
                galleries={recipe.gallery.name: stages.gallery_summary()},
                paragon=stages.paragon(),
            )
            write_json(run.front, front)
            plot_front([Searched(run.path.name, front, records)], run.path / "front.png")
    return front


def check(recipe: Recipe, data: str | None = None) -> None:
    """Raise at once what can be known to be wrong without reading data; ``data`` is their folder if known."""
    gallery, views = recipe.gallery, recipe.query.views
    if recipe.search.controller.startswith("nni:"):
        require_nni()
    sources = gallery.sources if isinstance(gallery, FusionSettings) else (gallery,)
    for source in sources:
        if views and isinstance(source, PrecomputedSettings):
            raise RecipeError(
                f"query.views is {views}, but gallery {source.name!r} is embeddings without a model; use 0."
            )
        if isinstance(source, SingleSettings):
            plan_single(source, recipe.data.size)
        elif isinstance(source, TimmSettings):
            require_timm()
        elif isinstance(source, FileSettings) and (Path(source.file).is_absolute() or named_folder(data)):
            data_file(recipe.data, data, source.file)
    if isinstance(gallery, FusionSettings) and gallery.training == "joint" and views:
        raise RecipeError(f"query.views is {views}, but what is jointly trained sees unchanged pictures; use 0.")
    if isinstance(gallery, SingleSettings | FusionSettings):
        recipe.space().require_reachable(recipe.search.budget)


def _check_engine(engine: str, workers: int | None, storage: str | None, nni_config: Path | None) -> None:
    """Raise before anything is trained if nobody could evaluate."""
    if engine not in ENGINES:
        raise RecipeError(unknown("engine", engine, ENGINES))
    if workers is not None and workers < (0 if storage else 1):
        raise RecipeError(f"--workers {workers}: at least 1 must evaluate, or be started elsewhere with a --storage.")
    if engine == "nni":
        require_nni()
        if storage:
            raise RecipeError("--storage is for workers; with --engine nni the training service is in --nni-config.")
    elif nni_config:
        raise RecipeError("--nni-config is for --engine nni.")
    elif storage:
        open_storage(storage)


def _check_batches(recipe: Recipe, splits: Splits) -> None:
    """Raise before anything is trained if a batch is larger than what there is to train on, or cannot be shared."""
    plans = [(recipe.query.supernet, splits.pool), (recipe.query.train, splits.pool)]
    options = recipe.gallery.sources if isinstance(recipe.gallery, FusionSettings) else (recipe.gallery,)
    plans += [(option.train, splits.train) for option in options if isinstance(option, SingleSettings)]
    if isinstance(recipe.gallery, FusionSettings) and recipe.gallery.train is not None:
        plans.append((recipe.gallery.train, splits.train))
    elif isinstance(recipe.gallery, BroughtSettings) and isinstance(recipe.gallery.projection, SoftmaxProjection):
        plans.append((recipe.gallery.projection.train, splits.train))
    for plan, items in plans:
        plan.check_shares()
        Steps(len(items), plan.batch_size, recipe.seed, 0, 0)


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


@contextmanager
def _judge(
    stages: Stages, engine: str, workers: int | None, storage: str | None, nni_config: Path | None
) -> Iterator[tuple[Judge, list[Record]]]:
    """Who evaluates, and what was evaluated for an earlier start and not yet written."""
    if engine == "nni":
        with nni_engine.judge(stages, workers or 1, nni_config) as judge:
            yield judge, []
    else:
        with local_workers.judge(stages, workers, storage) as both:
            yield both


def _search(stages: Stages, judge: Judge, found: list[Record], *, many: bool) -> list[Record]:
    """Every record, those of an earlier start as they are; ``many`` could evaluate at a time."""
    settings, run = stages.recipe.search, stages.run
    controller = make_controller(
        settings.controller, stages.space, settings.budget, population=settings.population, seed=stages.recipe.seed
    )
    log, ahead = RecordLog(run.records, stages.space), Ahead(run.ahead, stages.space)
    known = len(log.read())
    stages.say(f"search: {max(0, settings.trials - known)} of {settings.trials} architectures to evaluate")
    if many and settings.batch is None and not hasattr(controller, "independent"):
        stages.say(
            f"search: {settings.controller} waits for each result before it proposes the next; "
            "for workers that work at the same time set search.batch, as in --set search.batch=8"
        )
    trials = max(settings.trials, known)
    proceeding = rounds.search(
        controller,
        judge,
        log,
        ahead,
        trials=trials,
        batch=settings.batch,
        score=stages.reward,
        cost=lambda record: record.cost(settings.budget),
        found=found,
    )
    records = list(track(proceeding, "search", total=trials))
    if len(records) < trials:
        stages.say(f"search: ends after {len(records)}, nothing new is left within the budget")
    return records


def dry_run(recipe: Recipe, data: str | None = None) -> dict[str, Any]:
    """What `search` would do, without reading data or weights and writing files; raises what `check` raises."""
    check(recipe, data)
    space = recipe.space()
    budget = recipe.search.budget
    smallest, largest = space.extremes()
    return {
        "recipe": recipe.name,
        "space": space.name,
        "size": space.size,
        "architectures": space.count(),
        "feasible": _feasible(space, budget),
        "mflops": [space.cost(smallest).mflops, space.cost(largest).mflops],
        "budget": budget.to_json(),
        "controller": recipe.search.controller,
        "evaluations": recipe.search.trials,
        "gallery": recipe.gallery.name,
        "stages": ["gallery", "embed", "supernet", "search", "front"],
        "device": str(device()),
        "threads": torch.get_num_threads(),
    }
