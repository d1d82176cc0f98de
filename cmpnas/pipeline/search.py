"""From a recipe to a front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cmpnas.cost import Budget
from cmpnas.data import Splits, load_splits
from cmpnas.data.items import Steps
from cmpnas.data.load import data_file, named_folder
from cmpnas.distributed import first_alone, together
from cmpnas.errors import BudgetError, RecipeError, RunError
from cmpnas.files import write_json
from cmpnas.gallery.base import Indexed
from cmpnas.gallery.settings import (
    AnyGallery,
    BroughtSettings,
    EnsembleSettings,
    FileSettings,
    PrecomputedSettings,
    SingleSettings,
    SoftmaxProjection,
    TimmSettings,
)
from cmpnas.gallery.single import plan_single
from cmpnas.gallery.timm import require_timm
from cmpnas.pipeline.options import open_options, summary
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.progress import track
from cmpnas.recipe import Recipe
from cmpnas.report.plot import plot_front
from cmpnas.report.results import Searched
from cmpnas.run import RunFolder
from cmpnas.search.controllers import make_controller
from cmpnas.search.controllers.by_nni import require_nni
from cmpnas.search.evaluator import score_against
from cmpnas.search.front import build_front
from cmpnas.search.kept import KeptQueries
from cmpnas.search.records import Record, RecordLog
from cmpnas.space import SearchSpace
from cmpnas.space.counting import count
from cmpnas.train.device import device


@together()
def search(
    recipe: Recipe, path: Path, *, data: str | None = None, resume: bool = False, say: Say = print
) -> dict[str, Any]:
    """Run ``recipe`` in the folder ``path`` up to its front, and return the content of ``front.json``.

    Under ``torchrun`` all processes train; then the first one searches, and the others return an empty result.

    Raises:
        CmpnasError: a mistake of the user's; nothing that was computed is lost.
    """
    check(recipe, data)
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
        options = open_options(stages)
        indexed = {name: option.indexed for name, option in options.items()}
        if not first:
            return {}
        with run.timed("search"):
            records = _search(stages, indexed)
        with run.timed("front"):
            front = build_front(
                records,
                recipe=recipe.name,
                budget=recipe.search.budget,
                metric=recipe.search.metric,
                galleries={name: summary(option) for name, option in options.items()},
                paragon=stages.paragon(),
                indexed_per_query=recipe.search.indexed_per_query,
            )
            write_json(run.front, front)
            plot_front([Searched(run.path.name, front, records)], run.path / "front.png")
    return front


def check(recipe: Recipe, data: str | None = None) -> None:
    """Raise at once what can be known to be wrong without reading data; ``data`` is their folder if known."""
    gallery = recipe.gallery
    if recipe.search.controller.startswith("nni:"):
        require_nni()
    if recipe.query.views and isinstance(gallery, PrecomputedSettings):
        raise RecipeError(
            f"query.views is {recipe.query.views}, but gallery {gallery.name!r} is embeddings without a model; use 0."
        )
    if isinstance(gallery, SingleSettings):
        recipe.space().require_reachable(recipe.search.budget)
    for model in _models(recipe):
        if isinstance(model, SingleSettings):
            plan_single(model, recipe.data.size)
        elif isinstance(model, TimmSettings):
            require_timm()
        elif isinstance(model, FileSettings) and (Path(model.file).is_absolute() or named_folder(data)):
            data_file(recipe.data, data, model.file)


def _models(recipe: Recipe) -> list[AnyGallery]:
    """Every gallery model: the anchor and those beside it."""
    return [recipe.gallery, *(option for option in recipe.galleries if not isinstance(option, EnsembleSettings))]


def _check_batches(recipe: Recipe, splits: Splits) -> None:
    """Raise before anything is trained if a batch is larger than what there is to train on, or cannot be shared."""
    plans = [(recipe.query.supernet, splits.pool), (recipe.query.train, splits.pool)]
    for model in _models(recipe):
        if isinstance(model, SingleSettings):
            plans.append((model.train, splits.train))
        elif isinstance(model, BroughtSettings) and isinstance(model.projection, SoftmaxProjection):
            plans.append((model.projection.train, splits.train))
        if model.transform is not None:
            plans.append((model.transform.train, splits.pool))
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


def _search(stages: Stages, galleries: Mapping[str, Indexed]) -> list[Record]:
    """Ask, evaluate, record, tell; records of an earlier start are told without being evaluated."""
    settings, name = stages.recipe.search, stages.recipe.gallery.name
    log = RecordLog(stages.run.records, stages.space)
    log.drop_partial_line()
    kept = KeptQueries(stages.run.queries, settings.keep_mb * 2**20)
    known = _complete(log.read(), log, kept, stages, galleries)
    controller = make_controller(
        settings.controller, stages.space, settings.budget, population=settings.population, seed=stages.recipe.seed
    )
    evaluator = stages.evaluator(galleries, kept.save)
    stages.say(f"search: {max(0, settings.trials - len(known))} of {settings.trials} architectures to evaluate")
    records: list[Record] = []
    trials = max(settings.trials, len(known))
    for n in track(range(trials), "search", total=trials):
        arch = controller.ask()
        if arch is None:
            stages.say(f"search: ends after {n}, nothing new is left within the budget")
            break
        if n < len(known):
            if known[n].arch != arch:
                raise RunError(
                    f"{log.path}, line {n + 1} is {known[n].arch.id} where the controller proposes {arch.id}; "
                    "these records are of another search. Name another --run."
                )
            record = known[n]
        else:
            record = evaluator(n, arch)
            log.append(record)
            kept.prune([*records, record])
        controller.tell(arch, record.reward(name, settings.reward), record.cost(settings.budget))
        records.append(record)
    return records


def _complete(
    records: list[Record], log: RecordLog, kept: KeptQueries, stages: Stages, galleries: Mapping[str, Indexed]
) -> list[Record]:
    """Records scored against gallery options that came after them too, from the query embeddings that were kept."""
    metric, scored, left = stages.recipe.search.metric, 0, 0
    for place, record in enumerate(records):
        later = {name: known for name, known in galleries.items() if name not in record.galleries}
        query = kept.load(record.n) if later else None
        if query is None:
            left += bool(later)
            continue
        found = {**record.galleries, **score_against(query, later, stages.splits.search, metric)}
        records[place] = replace(
            record, galleries={name: found[name] for name in [*galleries, *found] if name in found}
        )
        scored += 1
    if scored:
        stages.say(f"search: {scored} architectures scored against gallery options that are new, no network was run")
        log.rewrite(records)
    if left:
        stages.say(f"search: of {left} architectures no query embeddings are kept; new gallery options do without them")
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
        "galleries": [option.name for option in recipe.galleries],
        "stages": ["gallery", "embed", "supernet", "search", "front"],
        "device": str(device()),
        "threads": torch.get_num_threads(),
    }
