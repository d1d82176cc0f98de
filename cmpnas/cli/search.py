"""``cmpnas search``: everything from a recipe to a front."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmpnas.cli.options import Data, Json, Storage, print_json, print_next, say
from cmpnas.errors import RecipeError
from cmpnas.files import read_json

if TYPE_CHECKING:
    from cmpnas.recipe import TextRecipe

_REDUCTION = 20  # of a query's cost, that is looked for first
EPILOG = (
    "Example: cmpnas search --budget-mflops 300   runs the embedded quickstart in runs/quickstart. "
    "Example: cmpnas search --recipe fashion_mnist --data DIR --budget-mflops 1 --set search.trials=100"
)


def command(
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="See cmpnas ls recipes; or a YAML file.")
    ] = "quickstart",
    data: Data = None,
    budget_mflops: Annotated[float | None, typer.Option(help="At most this many million multiply-adds.")] = None,
    budget_params_m: Annotated[float | None, typer.Option(help="At most this many million parameters.")] = None,
    budget_latency_ms: Annotated[
        float | None, typer.Option(help="At most this many milliseconds, by the latency table.")
    ] = None,
    latency_table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of this space, by cmpnas measure or from elsewhere.")
    ] = None,
    controller: Annotated[str | None, typer.Option(help="Who proposes (cmpnas ls controllers).")] = None,
    trials: Annotated[int | None, typer.Option(help="How many architectures to evaluate.")] = None,
    arch: Annotated[
        list[Path] | None,
        typer.Option("--arch", metavar="FILE", help="Evaluate this one first: arch.json of an export. Repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in search.population=20.")
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; by default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes of this machine that evaluate; its processors are shared out.")
    ] = None,
    storage: Storage = None,
    engine: Annotated[
        str, typer.Option(metavar="local|nni", help="Who evaluates: processes here or workers, or trials of NNI.")
    ] = "local",
    nni_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="NNI's experiment file, for another training service.")
    ] = None,
    plan_only: Annotated[bool, typer.Option("--dry-run", help="Check and print the plan; compute nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Find the query architectures that no other beats, from a recipe."""
    from cmpnas.pipeline.check import check_engine, dry_run
    from cmpnas.pipeline.search import search
    from cmpnas.recipe import TextRecipe, load_any_recipe

    flags = {
        "search.budget_mflops": budget_mflops,
        "search.budget_params_m": budget_params_m,
        "search.budget_latency_ms": budget_latency_ms,
        "search.latency_table": str(latency_table.absolute()) if latency_table else None,
        "search.controller": controller,
        "search.trials": trials,
        "search.known": [read_json(file) for file in arch] if arch else None,
        "seed": seed,
    }
    resolved = load_any_recipe(recipe, overrides or (), flags)
    if isinstance(resolved, TextRecipe):
        if workers is not None or engine != "local" or nni_config or (storage and "CMPNAS_STORAGE" not in os.environ):
            raise RecipeError(
                "--workers, --storage, --engine and --nni-config are for recipes of pictures; encoders of texts are "
                "judged in one process, in seconds."
            )
        _search_text(resolved, data, run, resume, plan_only, as_json)
        return
    if plan_only:
        check_engine(engine, workers, storage, nni_config)
        plan = dry_run(resolved, data)
        if as_json:
            print_json(plan)
            return
        _print_plan(plan)
        return
    folder = run or Path("runs") / resolved.name
    front = search(
        resolved,
        folder,
        data=data,
        resume=resume,
        workers=workers,
        storage=storage,
        engine=engine,
        nni_config=nni_config,
        say=say,
    )
    if not front:
        return
    if as_json:
        print_json(front)
        return
    from cmpnas.report.tables import print_front

    print_front(front)
    print(f"front: {folder / 'front.json'}, plot: {folder / 'front.png'}")
    cheap = any(pair["cost_reduction"] >= _REDUCTION for pair in front["pairs"])
    print_next("train", folder, "--pick", f"{_REDUCTION}x" if cheap else "best", data=data)


def _search_text(
    recipe: TextRecipe, data: str | None, run: Path | None, resume: bool, plan_only: bool, as_json: bool
) -> None:
    """The same for a recipe of texts."""
    from cmpnas.pipeline.crisp.search import dry_run_text, search_text
    from cmpnas.report.text import print_text_front

    if plan_only:
        plan = dry_run_text(recipe, data)
        if as_json:
            print_json(plan)
            return
        for name, value in plan.items():
            print(f"{name:<14}{value}")
        return
    folder = run or Path("runs") / recipe.name
    front = search_text(recipe, folder, data=data, resume=resume, say=say)
    if as_json:
        print_json(front)
        return
    print_text_front(front)
    print(f"front: {folder / 'front.json'}")
    print_next("train", folder, "--pick", "best", data=data)


def _print_plan(plan: dict[str, Any]) -> None:
    low, high = plan["mflops"]
    limits = ", ".join(f"{name} {limit:g}" for name, limit in plan["budget"].items()) or "no limit"
    print(f"recipe      {plan['recipe']}, stages: {', '.join(plan['stages'])}")
    print(f"gallery     {', '.join([plan['gallery'], *plan['galleries']])}")
    print(
        f"space       {plan['space']} at {plan['size']} px: {plan['architectures']:,} architectures, "
        f"{low:.4g} to {high:.4g} MFLOPs"
    )
    print(f"budget      {limits}: {plan['feasible']} architectures fit")
    if plan["embedding_dim"] is None:
        print("            by a guess: how wide the gallery's embeddings are shows when they are read")
    first = f", of which {plan['known']} known" if plan["known"] else ""
    print(f"search      {plan['evaluations']} evaluations by {plan['controller']}{first}")
    print(f"machine     {plan['device']}, {plan['threads']} threads")
    print("data        not read: columns, labels and splits are checked when the search starts")
