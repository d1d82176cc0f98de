"""``cmpnas data``: public data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, print_json, print_next

EPILOG = "Example: cmpnas data get fashion_mnist"

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Load public data sets."""


@app.command("get", epilog=EPILOG)
def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the public set, as of its recipe.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Load a public data set to where its recipe looks for it, and check every file.

    Into --data, else CMPNAS_DATA, else the folder "data".
    """
    from cmpnas.data.load import named_folder
    from cmpnas.data.public import PUBLIC, get

    root = Path(named_folder(data) or "data")
    folder = get(name, root)
    if as_json:
        print_json({"folder": str(folder), "files": sorted(PUBLIC[name].files)})
        return
    print(f"{folder}: {len(PUBLIC[name].files)} files ({PUBLIC[name].about})")
    print_next("search", "--recipe", name, data=str(root))
