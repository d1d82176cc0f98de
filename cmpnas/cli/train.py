"""``cmpnas train``: the chosen query network, to the end."""

from __future__ import annotations

from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Pick, Run, print_json, say

EPILOG = "Example: cmpnas train runs/quickstart --pick 20x"


def command(
    run: Run,
    pick: Pick = "best",
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Accepted for symmetry: training always continues.")] = False,
    as_json: Json = False,
) -> None:
    """Train the query network of one pair of the front, from the supernet's weights."""
    from cmpnas.pipeline.train import train_pick

    result = train_pick(run, pick, data=data, say=say)
    if as_json:
        print_json(result)
        return
    before, after = result["supernet_weights"], result["trained"]
    print(f"{result['id']}, {result['mflops']:.3f} MFLOPs, {result['metric']} on the search split:")
    print(f"  supernet weights  M(q,g) {before['heterogeneous']:.4f}  M(q,q) {before['homogeneous']:.4f}")
    print(f"  trained           M(q,g) {after['heterogeneous']:.4f}  M(q,q) {after['homogeneous']:.4f}")
    print(f"  paragon           M(g,g) {result['paragon']:.4f}")
    print(f"next:  cmpnas evaluate {run}")
