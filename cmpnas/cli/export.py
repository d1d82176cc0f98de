"""``cmpnas export``: a bundle that runs without cmpnas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Pick, Run, print_json, say

EPILOG = "Example: cmpnas export runs/quickstart --pick 20x --out bundle"


def command(
    run: Run,
    pick: Pick = "best",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Bundle folder; by default RUN/export/ID.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Export the trained query network as one ONNX file and check it against torch and the index."""
    from cmpnas.pipeline.export import export

    result = export(run, pick, out, data=data, say=say)
    if as_json:
        print_json(result)
        return
    check = result["check"]
    batches = ", ".join(map(str, check["batches"]))
    top = "the same" if check["same_top10"] else "NOT the same"
    print(f"{result['out']}: query.onnx, arch.json, manifest.json")
    print(
        f"checked at batches {batches}: differs from torch by at most {check['max_abs_difference']:.1e}, "
        f"unit norm to {check['unit_norm_error']:.1e}, {top} top 10 of the gallery index"
    )
