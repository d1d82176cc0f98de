"""``cmpnas measure``: a latency table of this device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cmpnas.cli.options import Json, print_json, say

EPILOG = (
    "Example: cmpnas measure mobile --size 96 --out mobile96.json, then "
    "cmpnas search --latency-table mobile96.json --budget-latency-ms 2. Repeat the command to continue."
)


def command(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="A space by name, a YAML file, or package.module:Class.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="Where the table goes.")],
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels; by default the space's.")] = None,
    embedding_dim: Annotated[int | None, typer.Option(help="Width of the embedding; by default the space's.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of onnxruntime.")] = 1,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    networks: Annotated[int, typer.Option(help="Whole networks to correct by; as many others check.")] = 60,
    rounds: Annotated[int, typer.Option(help="Runs of every operator and network.")] = 100,
    seed: Annotated[int, typer.Option(help="Which networks.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure what each operator of a space takes in onnxruntime, and how well networks are predicted from that."""
    from cmpnas.measure import OnnxRuntime, measure
    from cmpnas.space import load_space

    found = load_space(space, size=size, embedding_dim=embedding_dim)
    table = measure(found, OnnxRuntime(threads, batch), out, networks=networks, rounds=rounds, seed=seed, say=say)
    if as_json:
        print_json({"table": str(out), "operators": len(table.operators), "held_out": table.held_out})
        return
    print(describe_error(table.held_out or {}))
    print(f"table: {out}, {len(table.operators):,} operators on {table.device['processor']}")


def describe_error(off: dict[str, Any]) -> str:
    """A table's held-out error in lines."""
    tau = off["kendall"]
    low, high = tau["interval"] or (float("nan"),) * 2
    return (
        f"{off['networks']} networks that nothing was fitted on: mean error {off['mape']:.1%}, largest "
        f"{off['worst']:.1%}, {off['within_10pct']:.0%} within 10%, Kendall's tau "
        f"{tau['value'] or float('nan'):.3f} [{low:.3f}, {high:.3f}]\n"
        f"the same network measured twice, in half of the rounds each, differs by {off['repeatability']:.1%}; "
        f"the plain sum of operators is off by {off['plain_sum_mape']:.0%}"
    )
