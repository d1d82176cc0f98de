"""``cmpnas plot``: pictures of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Json, print_json

EPILOG = "Examples: cmpnas plot runs/quickstart --out front.svg   cmpnas plot runs/a runs/b --kind progress --out p.pdf"


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs, as made by cmpnas search.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="front (score against cost), progress (hypervolume by evaluation), arch (layers of a pick), "
            "rank (the certificate of cmpnas rank).",
        ),
    ] = "front",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".png, .svg or .pdf; by default RUN/KIND.png.")
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option(
            metavar="COST", help="Of a front: mflops, params, latency or amortised; by default what the search lowered."
        ),
    ] = None,
    references: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a front: networks to draw beside it (docs/report.md).")
    ] = None,
    pick: Annotated[
        str | None, typer.Option(metavar="ID", help="Of arch: knee (the default), best, cheapest, 20x, or an id.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw finished runs: fronts of one or several, progress, an architecture, or a ranking certificate."""
    from cmpnas.pipeline.plot import plot

    drawn = plot(runs, out, kind, cost=cost, references=references, pick=pick)
    if as_json:
        print_json(drawn)
    else:
        print(drawn["out"])
