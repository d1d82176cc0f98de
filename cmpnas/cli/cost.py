"""``cmpnas cost``: what an architecture, a space or an ONNX file costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cmpnas.cli.options import Json, print_json
from cmpnas.errors import CmpnasError

EPILOG = (
    "Example: cmpnas cost mobile --extremes --audit. Example: cmpnas cost mobile_small --count --max-mflops 2. "
    "Example: cmpnas cost mobile_small --arch arch.json --size 64 --latency-table table.json. "
    "Example: cmpnas cost gallery.onnx"
)


def command(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE|FILE.onnx", help="A space by name, a YAML file, or package.module:Class; or an ONNX model."
        ),
    ],
    arch: Annotated[Path | None, typer.Option(metavar="FILE", help="An architecture as JSON.")] = None,
    extremes: Annotated[bool, typer.Option("--extremes", help="The cheapest and the dearest (default).")] = False,
    count: Annotated[bool, typer.Option("--count", help="How many architectures there are, exactly.")] = False,
    max_mflops: Annotated[float | None, typer.Option(help="Count within this many million multiply-adds.")] = None,
    max_params_m: Annotated[float | None, typer.Option(help="Count within this many million parameters.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Count within this many milliseconds.")] = None,
    latency_table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Predict milliseconds from this table (cmpnas measure).")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the input in pixels; by default the space's, or the file's.")
    ] = None,
    embedding_dim: Annotated[int | None, typer.Option(help="Width of the embedding; by default the space's.")] = None,
    audit: Annotated[bool, typer.Option("--audit", help="Count once more with fvcore.")] = False,
    as_json: Json = False,
) -> None:
    """Cost in million multiply-adds (convolution and linear, eval mode), million parameters, and MiB of float32
    that activations of one image need at their peak."""
    from cmpnas.cost.latency import read_latency_table
    from cmpnas.files import read_json
    from cmpnas.space import load_space

    limits = any(limit is not None for limit in (max_mflops, max_params_m, max_latency_ms))

    if space.endswith(".onnx"):
        if arch is not None or extremes or count or audit or limits or latency_table:
            raise CmpnasError(f"{space} is one model, not a space; of the options only --size and --json apply.")
        _cost_onnx(Path(space), size, as_json)
        return
    if sum((arch is not None, extremes, count)) > 1:
        raise CmpnasError("--arch, --extremes and --count exclude each other; give one.")
    if not count and limits:
        raise CmpnasError("--max-mflops, --max-params-m and --max-latency-ms limit a count; add --count.")
    found = load_space(space, size=size, embedding_dim=embedding_dim)
    table = None if latency_table is None else read_latency_table(latency_table)
    if table is not None:
        found = found.timed(table)
    if count:
        number = found.count(max_mflops=max_mflops, max_params_m=max_params_m, max_latency_ms=max_latency_ms)
        if as_json:
            print_json({"space": found.name, "size": found.size, "count": number})
        else:
            print(f"{number:,} architectures of {found.name} at {found.size} {found.unit}")
        return
    archs = [found.from_json(read_json(arch))] if arch is not None else list(found.extremes())
    rows: list[dict[str, Any]] = []
    for each in archs:
        cost = found.cost(each)
        row: dict[str, Any] = {"id": each.id, "mflops": cost.mflops, "params_m": cost.params_m}
        row["memory_mib"] = cost.memory_mib
        if table is not None:
            row["latency_ms"], row["latency_error"] = cost.latency_ms, table.error
        if audit:
            from cmpnas.cost.audit import audit as fvcore_audit
            from cmpnas.models import build_network

            counted = fvcore_audit(build_network(found, each), found.size, found.unit)
            row["fvcore"] = {"mflops": counted.mflops, "params_m": counted.params_m}
        rows.append(row)
    if as_json:
        print_json({"space": found.name, "size": found.size, "architectures": rows})
        return
    for row in rows:
        line = (
            f"{row['mflops']:12.6f} MFLOPs  {row['params_m']:10.6f} M params  {row['memory_mib']:7.3f} MiB  {row['id']}"
        )
        if table is not None:
            error = "error unknown" if table.error is None else f"mean error {table.error:.1%}"
            line += f"  {row['latency_ms']:.4f} ms ({error})"
        if audit:
            same = row["fvcore"]["mflops"] == row["mflops"] and row["fvcore"]["params_m"] == row["params_m"]
            line += f"  (fvcore: {'the same' if same else row['fvcore']})"
        print(line)


def _cost_onnx(path: Path, size: int | None, as_json: bool) -> None:
    from cmpnas.cost.onnx import agreed_size, count_onnx, image_input, read_onnx

    model = read_onnx(path)
    side = agreed_size(image_input(model), size)
    cost = count_onnx(model, side)
    if as_json:
        print_json({"file": str(path), "size": side, "mflops": cost.mflops, "params_m": cost.params_m})
        return
    print(f"{cost.mflops:12.6f} MFLOPs  {cost.params_m:10.6f} M params  {path} at {side} px")
