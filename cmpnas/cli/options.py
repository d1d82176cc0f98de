"""Options and output that several commands share."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, as made by cmpnas search.")]
Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Folder of the data; else CMPNAS_DATA.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        envvar="CMPNAS_STORAGE",
        show_envvar=False,
        help="Where workers find tasks: journal:FILE, postgresql://..., grpc://HOST:PORT; else CMPNAS_STORAGE.",
    ),
]
PICK = typer.Option(
    "--pick", metavar="ID", help="best, knee, cheapest, 20x (best of those 20 times cheaper), or an id."
)
Pick = Annotated[str, PICK]


def say(message: str) -> None:
    """Tell the user what happens, on stderr, so that stdout holds the result alone."""
    if os.environ.get("RANK", "0") == "0":  # of the processes of torchrun one speaks
        print(message, file=sys.stderr, flush=True)


def print_json(content: Any) -> None:
    """Print one JSON document to stdout."""
    print(json.dumps(content, indent=2), flush=True)


def print_next(*command: object, data: str | None = None) -> None:
    """Say what to type next, as a shell takes it; ``data`` is what the user named by ``--data``."""
    print("next:  " + shlex.join(map(str, ("cmpnas", *command, *(() if data is None else ("--data", data))))))
