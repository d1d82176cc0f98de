"""``cmpnas report``: one page of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Run, print_json, say

EPILOG = "Example: cmpnas report runs/quickstart --pick 20x   then open runs/quickstart/report.html in any browser"


def command(
    run: Run,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="An .html file; by default RUN/report.html.")] = None,
    pick: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The pair to show: best, knee, cheapest, 20x, or an id; else one trained."),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page: front, comparison, pairs, compatibility, examples, provenance."""
    from cmpnas.pipeline.report import report

    written = report(run, out, pick, data=data, say=say)
    if as_json:
        print_json(written)
    else:
        print(f"{written['out']}: {written['bytes'] / 1e6:.2f} MB, opens without a network")
