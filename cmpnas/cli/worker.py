"""``cmpnas worker``: evaluate for a search that runs elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Run, Storage, print_json, say
from cmpnas.errors import RunError

EPILOG = (
    "Example: cmpnas search --storage postgresql://USER@HOST/cmpnas   waits for workers. "
    "Example: cmpnas worker runs/quickstart --storage postgresql://USER@HOST/cmpnas   on as many hosts as there are."
)


def command(
    run: Run,
    storage: Storage = None,
    data: Data = None,
    attached: Annotated[bool, typer.Option("--attached", help="End when standard input is closed.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate architectures for a search that puts its tasks into a storage, until it is over."""
    if storage is None:
        raise RunError("a worker finds its tasks in a storage; name the one that the search was given with --storage.")
    from cmpnas.pipeline.workers import serve

    evaluated = serve(run, storage, data=data, attached=attached, say=say)
    if as_json:
        print_json({"evaluated": evaluated})
    else:
        print(f"worker: the search is over; {evaluated} architectures were evaluated here")
