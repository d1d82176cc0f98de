"""``cmpnas export``: a bundle that runs without cmpnas."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import PICK, Data, Json, Run, print_json, say
from cmpnas.errors import CmpnasError

EPILOG = "Example: cmpnas export runs/quickstart --pick 20x --out bundle --int8 --preprocess nhwc:480x640"


def command(
    run: Run,
    pick: Annotated[str | None, PICK] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Bundle folder; by default RUN/export/ID.")] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also query.int8.onnx, calibrated on training pictures, and query.w8.onnx.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="What int8 may cost, by default 1; layers beyond it stay in float32."),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(metavar="INPUT", help="uint8 pictures in, prepared in the graph: nhwc, nchw, nhwc:480x640."),
    ] = None,
    gallery: Annotated[
        bool, typer.Option("--gallery", help="Also the gallery side: to the vectors that the index stores.")
    ] = False,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="Also index.align.onnx: the index into this network's own language.")
    ] = False,
    joined: Annotated[
        bool, typer.Option("--joined", help="Aligned, and joined by this network's own vectors of the same pictures.")
    ] = False,
    option: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of which gallery option; by default the pick's own.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Export the trained query network as a folder that runs without cmpnas, checked against torch and the index."""
    from cmpnas.run import TextRunFolder, open_run

    if isinstance(open_run(run), TextRunFolder):
        if int8 or preprocess or gallery or aligned or joined or option or pick or tolerance is not None:
            raise CmpnasError(
                "the encoder finished last is exported; --pick, --int8, --tolerance, --preprocess, --gallery, "
                "--aligned, --joined and --option are for runs of pictures: leave them out."
            )
        _export_text(run, out, data, as_json)
        return
    from cmpnas.pipeline.export import export

    result = export(
        run, pick or "best", out, int8=int8, tolerance=1.0 if tolerance is None else tolerance, preprocess=preprocess,
        gallery=gallery, index="joined" if joined else "aligned" if aligned else "heterogeneous", option=option,
        data=data, say=say,
    )  # fmt: skip
    if as_json:
        print_json(result)
        return
    from cmpnas.report.tables import print_bundle

    print_bundle(result["out"], result["manifest"])


def _export_text(run: Path, out: Path | None, data: str | None, as_json: bool) -> None:
    """The finished text encoder of a text run."""
    from cmpnas.pipeline.crisp.export import export_text_run

    result = export_text_run(run, out, data=data, say=say)
    if as_json:
        print_json(result)
        return
    check = result["check"]
    print(f"{result['out']}: query.onnx, tokeniser.json, pictures.npy, names.json, query.py, manifest.json")
    print(
        f"differs from torch by at most {check['max_abs_difference']:.1e}; query.py finds the same top 10 without torch"
    )
    print(f'next:  python {shlex.quote(result["out"] + "/query.py")} "TEXT"')
