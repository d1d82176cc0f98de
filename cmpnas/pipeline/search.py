"""From a recipe to a front."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cmpnas.data import load_splits
from cmpnas.distributed import first_alone, together
from cmpnas.files import write_json
from cmpnas.gallery.base import Indexed
from cmpnas.gallery.settings import BroughtSettings, PrecomputedSettings
from cmpnas.pipeline import nni_engine
from cmpnas.pipeline import workers as local_workers
from cmpnas.pipeline.check import check, check_data, check_engine, describe_budget
from cmpnas.pipeline.kinds import check_gallery
from cmpnas.pipeline.options import kept_queries, open_options, summary
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.progress import track
from cmpnas.recipe import Recipe
from cmpnas.report.plot import plot_front
from cmpnas.report.results import Searched
from cmpnas.run import RunFolder
from cmpnas.search import rounds
from cmpnas.search.controllers import Controller, make_controller
from cmpnas.search.evaluator import first_queries
from cmpnas.search.front import build_front, front_pairs
from cmpnas.search.indexed import IndexedTask
from cmpnas.search.kept import KeptQueries
from cmpnas.search.race import Race
from cmpnas.search.records import Ahead, PairScore, Record, RecordLog, finished
from cmpnas.search.rounds import Judge
from cmpnas.search.storage import open_storage
from cmpnas.space import Arch

_EVERY = 64  # records, from one rewriting or pruning of files to the next


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
    check_engine(engine, workers, storage, nni_config)
    if storage:
        open_storage(storage)  # before anything is trained
    splits = load_splits(recipe.data, data)
    stages = Stages(RunFolder(path, recipe), splits, data, say)
    settings = recipe.search
    controller = make_controller(
        settings.controller, stages.space, settings.budget,
        population=settings.population, seed=recipe.seed, known=settings.known,
    )  # fmt: skip
    check_data(recipe, splits)
    check_gallery(stages)
    for option in recipe.galleries:
        if isinstance(option, PrecomputedSettings | BroughtSettings):
            check_gallery(stages.of(option))
    with first_alone() as first:
        run = stages.run
        if first:
            run = RunFolder.begin(path, recipe, resume=resume, data=splits.fingerprint)
    with run.locked(), run.adopted(say):
        say(describe_budget(stages.space, recipe))
        stages.prepare()
        options = open_options(stages)
        indexed = {name: option.indexed for name, option in options.items()}
        galleries = {name: summary(option) for name, option in options.items()}  # which opens them, in all processes
        if not first:
            return {}
        with run.timed("search"), _judge(stages, indexed, engine, workers, storage, nni_config) as (judge, found):
            many = bool(storage) or (workers or 1) > 1
            records = _search(stages, controller, indexed, judge, found, many=many)
        with run.timed("front"):
            records = _compared(records, stages, galleries)
            front = build_front(
                records,
                recipe=recipe.name,
                budget=settings.budget,
                metric=settings.metric,
                galleries=galleries,
                paragon=stages.paragon(),
                indexed_per_query=settings.indexed_per_query,
            )
            write_json(run.front, front)
            plot_front([Searched(run.path.name, front, finished(records))], run.path / "front.png")
    return front


@contextmanager
def _judge(
    stages: Stages,
    indexed: Mapping[str, Indexed],
    engine: str,
    workers: int | None,
    storage: str | None,
    nni_config: Path | None,
) -> Iterator[tuple[Judge, list[Record]]]:
    """Who evaluates, and what was evaluated for an earlier start and not yet written."""
    if engine == "nni":
        with nni_engine.judge(stages, workers or 1, nni_config) as judge:
            yield judge, []
    else:
        with local_workers.judge(stages, indexed, workers, storage) as both:
            yield both


def _search(
    stages: Stages,
    controller: Controller,
    galleries: Mapping[str, Indexed],
    judge: Judge,
    found: list[Record],
    *,
    many: bool,
) -> list[Record]:
    """Every record, those of an earlier start as they are; ``many`` could evaluate at a time."""
    settings, run = stages.recipe.search, stages.run
    log, ahead = RecordLog(run.records, stages.space), Ahead(run.ahead, stages.space)
    kept = kept_queries(stages)
    known = len(_complete(log, kept, stages, galleries))
    if any(galleries.keys() - record.galleries.keys() for record in ahead.read()):
        ahead.clear()  # of before an option came: evaluated again, with all options
    stages.say(f"search: {max(0, settings.trials - known)} of {settings.trials} architectures to evaluate")
    if many and settings.batch is None and not hasattr(controller, "independent"):
        stages.say(
            f"search: {settings.controller} waits for each result before it proposes the next; "
            "for workers that work at the same time set search.batch, as in --set search.batch=8"
        )
    trials = max(settings.trials, known)
    race = None if settings.racing is None else Race(partial(_cost, stages))

    def score(record: Record) -> float:
        """Of what was stopped, that which it was expected to come to."""
        if race is None or record.raced is None:
            return stages.reward(record)
        return race.expected(stages.recipe.gallery.name, stages.reward(record))

    proceeding = rounds.search(
        controller,
        judge,
        log,
        ahead,
        trials=trials,
        batch=settings.batch,
        score=score,
        cost=lambda record: record.cost(settings.budget),
        found=found,
        race=race,
    )
    records: list[Record] = []
    for record in track(proceeding, "search", total=trials):
        records.append(record)
        if len(records) % _EVERY == 0:
            kept.prune(records, settings.budget)
    kept.prune(records, settings.budget)
    if stopped := len(records) - len(finished(records)):
        stages.say(f"search: {stopped} of {len(records)} could not enter the front and were stopped early")
    if len(records) < trials:
        stages.say(f"search: ends after {len(records)}, nothing new is left within the budget")
    return records


def _compared(records: list[Record], stages: Stages, galleries: Mapping[str, Any]) -> list[Record]:
    """Records with M(q, q) in all that were finished, or in those of the front alone where the search says so."""
    settings, kept = stages.recipe.search, list(records)
    log = RecordLog(stages.run.records, stages.space)
    pairs = front_pairs(records, settings.budget, galleries, settings.indexed_per_query)
    wanted = {record.arch: record.n for record, _ in pairs}
    if settings.homogeneous == "front":
        left = [record.n for record in records if record.arch not in wanted and not math.isnan(record.homogeneous)]
        if left:
            stages.say(f"search: M(q, q) of {len(left)} off the front is left out, as search.homogeneous has it")
            for n in left:
                kept[n] = replace(kept[n], homogeneous=math.nan)
            log.rewrite(kept)
    else:  # which an earlier start may have left out
        wanted |= {record.arch: record.n for record in finished(records)}
    missing = [arch for arch, n in wanted.items() if math.isnan(kept[n].homogeneous)]
    if missing:
        stages.say(f"search: M(q, q) of {len(missing)} architectures")
        found = track(stages.evaluator().homogeneous(missing), "M(q, q)", total=len(missing))
        for done, (arch, score) in enumerate(found, 1):
            kept[wanted[arch]] = replace(kept[wanted[arch]], homogeneous=score)
            if done % _EVERY == 0 or done == len(missing):
                log.rewrite(kept)
    return kept


def _cost(stages: Stages, arch: Arch) -> float:
    """What the search lowers, as `Record.cost` has it."""
    cost = stages.space.cost(arch)
    return stages.recipe.search.budget.lowers(cost.mflops, cost.latency_ms)


def _complete(log: RecordLog, kept: KeptQueries, stages: Stages, galleries: Mapping[str, Indexed]) -> list[Record]:
    """Records scored against gallery options that came after them too, from the query embeddings that were kept."""
    records, settings, scored, left = log.read(), stages.recipe.search, 0, 0
    task = IndexedTask(stages.splits.search, galleries, settings.metric)
    first = None if settings.racing is None else first_queries(task.task, settings.racing)
    for place, record in enumerate(records):
        later = [name for name in galleries if name not in record.galleries]
        query = kept.load(record.n) if later else None
        if query is None:
            left += bool(later)
            continue
        new = task.against(query, later)
        found = {**record.galleries, **{name: PairScore.of(new[name], task.metric, first) for name in later}}
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
