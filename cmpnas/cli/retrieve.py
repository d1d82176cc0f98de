"""``cmpnas retrieve``: pictures for a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Run, print_json, say
from cmpnas.errors import CmpnasError

EPILOG = 'Example: cmpnas retrieve runs/shop_text "a red mug, striped in white"'


def command(
    run: Run,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="What the picture shows.")],
    split: Annotated[str, typer.Option(help="test or search: whose pictures are asked for.")] = "test",
    k: Annotated[int | None, typer.Option(min=1, help="Candidates that are re-ranked; by default as planned.")] = None,
    show: Annotated[int, typer.Option(min=1, help="How many pictures to show.")] = 10,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Contact sheet, .png or .jpg; by default RUN/retrieved.png.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Find pictures by a text: print them, best first, and save a contact sheet."""
    if split not in ("test", "search"):
        raise CmpnasError(f"unknown split {split!r}; give test or search.")
    from cmpnas.pipeline.crisp.retrieve import retrieve

    result = retrieve(run, query, split=split, k=k, show=show, sheet=sheet, data=data, say=say)
    if as_json:
        print_json(result)
        return
    for line in result["found"]:
        print(f"{line['rank']:3d}  {line['score']:9.3f}  {line['row']:6d}  {line['name']}")
    if result["sheet"]:
        print(f"sheet: {result['sheet']}")
