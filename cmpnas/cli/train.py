"""``cmpnas train``: the chosen query network, to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Pick, Run, print_json, print_next, say
from cmpnas.errors import RecipeError

EPILOG = (
    "Example: cmpnas train runs/quickstart --pick 20x   Example, a small network that knows no gallery, to compare "
    "with: cmpnas train runs/quickstart --pick 20x --start scratch --loss vanilla"
)


def command(
    run: Run,
    pick: Pick = "best",
    start: Annotated[
        str, typer.Option(help="supernet, scratch, or pretrained (those of the recipe): the weights to start from.")
    ] = "supernet",
    loss: Annotated[
        list[str] | None,
        typer.Option("--loss", metavar="NAME[=WEIGHT]", help="Instead of the recipe's losses (cmpnas ls losses)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Instead of the recipe's.")] = None,
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Accepted for symmetry: training always continues.")] = False,
    as_json: Json = False,
) -> None:
    """Train the query network of one pair of the front, or a variant of it to compare with."""
    if start not in ("supernet", "scratch", "pretrained"):
        raise RecipeError(f"unknown start {start!r}; give supernet, scratch or pretrained.")
    from cmpnas.run import TextRunFolder, open_run

    if isinstance(open_run(run), TextRunFolder):
        if start != "supernet" or loss or seed is not None:
            raise RecipeError("--start, --loss and --seed are for runs of pictures; a text run keeps to its recipe.")
        _train_text(run, pick, data, as_json)
        return
    from cmpnas.pipeline.train import train_pick

    result = train_pick(
        run,
        pick,
        start=start,  # type: ignore[arg-type]
        loss=dict(map(_weighed, loss)) if loss else None,
        seed=seed,
        data=data,
        say=say,
    )
    if not result:
        return
    if as_json:
        print_json(result)
        return
    before, after = result["supernet_weights"], result["trained"]
    where = f"{result['metric']} on the search split, g is {result['gallery']}"
    print(f"{result['name']}, {result['mflops']:.3f} MFLOPs, {where}:")
    print(f"  supernet weights  M(q,g) {before['heterogeneous']:.4f}  M(q,q) {before['homogeneous']:.4f}")
    if after is None:
        print("  trained           on pictures of that split too (data.finish): the test split alone can judge it")
    else:
        taught = ", from pictures of this index too (data.finish)" if result["index_is_learned"] else ""
        print(f"  trained           M(q,g) {after['heterogeneous']:.4f}  M(q,q) {after['homogeneous']:.4f}{taught}")
        print(f"  the index aligned M(q,g) {after['aligned']:.4f}, joined M(q,g+q) {after['joined']:.4f}")
    print(f"  paragon           M(g,g) {result['paragon']['score']:.4f}, g is {result['paragon']['gallery']}")
    print_next("evaluate", run, data=data)


def _train_text(run: Path, pick: str, data: str | None, as_json: bool) -> None:
    from cmpnas.pipeline.crisp.finish import train_text_pick

    result = train_text_pick(run, pick, data=data, say=say)
    if as_json:
        print_json(result)
        return
    plan = result["plan"]
    print(f"{result['id']}, {result['mflops']:.3f} MFLOPs, hit@1 on the search split:")
    print(f"  coarse alone      {result['coarse_hit@1']:.4f}")
    print(f"  cascade of {plan['k']:<6} {plan['hit']:.4f}   {plan['milliseconds']:.2f} ms a query ({plan['binding']})")
    print(f"  all pictures      {plan['scan_hit']:.4f}   {plan['scan_milliseconds']:.2f} ms a query")
    print_next("evaluate", run, data=data)


def _weighed(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    try:
        value = float(weight or 1)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise RecipeError(f"--loss takes NAME or NAME=WEIGHT with a weight above 0, as in regression=10; got {text!r}.")
    return name, value
