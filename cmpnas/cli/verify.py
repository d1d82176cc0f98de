"""``cmpnas verify``: check a bundle again, on this machine, against an index that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, print_json

EPILOG = "Example: cmpnas verify bundle --index runs/quickstart/gallery/resnet/index.faiss"


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder made by cmpnas export.")],
    index: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The gallery's index.faiss: also score the bundle against it."),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Check that a bundle is whole, that its files agree, and that they find in the index what they found at export.

    Runs the bundle's model.py: verify only bundles of people you trust.
    """
    from cmpnas.pipeline.verify import verify

    result = verify(bundle, index, data=data)
    if as_json:
        print_json(result)
        return
    from cmpnas.report.tables import print_verified

    print_verified(result)
