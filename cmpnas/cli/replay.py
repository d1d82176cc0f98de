"""``cmpnas replay``: controllers side by side on what a search recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Json, print_json

EPILOG = "Example: cmpnas replay runs/quickstart --controller predictor --controller optuna:nsga2 --seeds 20"


def command(
    table: Annotated[
        Path, typer.Argument(metavar="RUN|TABLE", help="A run, or a records.jsonl: its architectures are the space.")
    ],
    controllers: Annotated[
        list[str], typer.Option("--controller", metavar="NAME", help="See cmpnas ls controllers; may be repeated.")
    ],
    seeds: Annotated[int, typer.Option(help="Searches of each controller.")] = 5,
    trials: Annotated[int, typer.Option(help="Evaluations of each search, looked up in the records.")] = 100,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".png, .svg or .pdf; by default replay.png beside the records.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare controllers in seconds: hypervolume by evaluation, on architectures that were evaluated before."""
    from cmpnas.pipeline.replay import replay
    from cmpnas.report.replay import plot_replay, print_replay
    from cmpnas.report.style import check_path

    path = out or (table if table.is_dir() else table.parent) / "replay.png"
    check_path(path)
    result = replay(table, controllers, trials=trials, seeds=seeds)
    plot_replay(result, path)
    if as_json:
        print_json(result | {"out": str(path)})
        return
    print_replay(result)
    print(f"plot: {path}")
