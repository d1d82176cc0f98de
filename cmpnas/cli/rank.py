"""``cmpnas rank``: does the supernet order architectures as training each alone does?"""

from __future__ import annotations

from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Run, print_json, say

EPILOG = "Example: cmpnas rank runs/quickstart --architectures 30   trains 30 networks; repeat the command to continue."


def command(
    run: Run,
    architectures: Annotated[
        int, typer.Option(metavar="N", help="How many to draw from the space; at least 3. More may be added later.")
    ] = 30,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Certify a supernet's ranking: Kendall's tau with training each architecture alone, and with counting MFLOPs."""
    from cmpnas.pipeline.rank import rank

    result = rank(run, architectures, data=data, say=say)
    if as_json:
        print_json(result)
        return
    from cmpnas.report.tables import print_rank

    print_rank(result)
    print(f"scores: {run / 'rank.jsonl'}, plot: {run / 'rank.png'}")
