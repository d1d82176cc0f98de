"""``cmpnas plot``: the accuracy-cost front."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Json, Run, print_json

EPILOG = "Example: cmpnas plot runs/quickstart --out front.svg"


def command(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".png, .svg or .pdf; by default RUN/front.png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw the candidates, the front, the paragon and the budget of a finished search."""
    from cmpnas.report.plot import plot_front
    from cmpnas.run import RunFolder
    from cmpnas.search.records import RecordLog

    folder = RunFolder.open(run)
    front = folder.read_front()
    path = out or run / "front.png"
    plot_front(front, RecordLog(folder.records, folder.recipe.space()).read(), path)
    if as_json:
        print_json({"out": str(path), "pairs": len(front["pairs"])})
    else:
        print(path)
