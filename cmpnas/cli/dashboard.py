"""``cmpnas dashboard``: a run in optuna-dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from cmpnas.cli.options import Json, Run, print_json, say

EPILOG = "Example: cmpnas dashboard runs/quickstart   then open http://127.0.0.1:8080 in a browser on this machine"


def command(
    run: Run,
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Port of this machine to serve at.")] = 8080,
    as_json: Json = False,
) -> None:
    """Show a finished search in optuna-dashboard, to this machine alone; what is changed there is not kept."""
    from cmpnas.pipeline.dashboard import serve

    def ready(address: str) -> None:
        if as_json:
            print_json({"run": str(run), "address": address})
        else:
            say(f"dashboard of {run}: {address} (end with Ctrl-C)")

    serve(run, port, ready)
