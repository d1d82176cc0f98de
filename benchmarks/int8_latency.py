"""Whether operators that are quantised and timed alone add up to quantised networks: a table in int8 would need that.

    python benchmarks/int8_latency.py [SPACE] [SIZE]

Quantises every operator of a space and whole networks as `cmpnas export --int8` does, times them in turns as `cmpnas
measure` does, fits the predictor on half of the networks and prints how far it is off on the others. Then how long the
quantised networks take over their float32 selves.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import torch
import typer
from command import as_command

from cmpnas.export.int8 import Quantiser
from cmpnas.measure import OnnxRuntime
from cmpnas.measure.graphs import chain, filled, is_idle, layer_graph, normalise_graph
from cmpnas.measure.stopwatch import session_timer
from cmpnas.measure.table import Plan, build_table
from cmpnas.space import load_space

_NETWORKS, _SITTINGS, _ROUNDS = 40, 6, 15


def main(name: Annotated[str, typer.Argument()] = "mobile_small", size: Annotated[int, typer.Argument()] = 48) -> None:
    torch.set_num_threads(1)
    space = load_space(name, size=size)
    plan, last = Plan.of(space, _NETWORKS, 0), normalise_graph(1, space.embedding_dim)
    graphs = {operator: layer_graph(layer, 1) for operator, (layer, _) in plan.operators.items()}
    whole = [filled(chain([*(graphs[one.operator] for one in space.layers(a)), last])) for a in plan.archs]
    with tempfile.TemporaryDirectory() as folder:
        made = [None if is_idle(graph) else quantised(filled(graph), Path(folder)) for graph in graphs.values()]
        made += [quantised(graph, Path(folder)) for graph in whole]
    number, contents = len(made), [*made, *(graph.SerializeToString() for graph in whole)]
    times = np.stack(timed(contents))
    table = build_table(plan, times[:, :number], OnnxRuntime().provenance())
    print(table.correction)
    checked = table.held_out or {}
    print(", ".join(f"{key} {value:.3f}" for key, value in checked.items() if isinstance(value, float)))
    print(f"kendall {checked['kendall']}")
    middle = np.median(times, 0)
    over = middle[len(graphs) : number] / middle[number:]
    print(f"networks in int8 over float32: median {np.median(over):.2f}, {over.min():.2f} to {over.max():.2f}")


def quantised(graph: onnx.ModelProto, scratch: Path) -> bytes:
    """``graph``, whose input is ``x``, in int8; ranges are those of one picture of noise."""
    model, path = onnx.ModelProto(), scratch / "float.onnx"
    model.CopyFrom(graph)
    model.graph.input[0].name = "images"
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node{number}"
        node.input[:] = ["images" if taken == "x" else taken for taken in node.input]
    onnx.save_model(model, str(path))
    (scratch / "ranges.json").unlink(missing_ok=True)
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    Quantiser(path, lambda: iter([noise]), scratch).write(scratch / "int8.onnx")
    return (scratch / "int8.onnx").read_bytes()


def timed(contents: list[bytes | None]) -> list[np.ndarray]:
    """Milliseconds of each, a row for each round; what is None takes none."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(_SITTINGS):
        order = [place for place in rng.permutation(len(contents)) if contents[place] is not None]
        timers = {place: session_timer(contents[place], 1) for place in order}
        for _ in range(_ROUNDS):
            row = np.zeros(len(contents))
            for place in rng.permutation(order):
                row[place] = timers[place]()
            rows.append(row)
    return rows


if __name__ == "__main__":
    as_command(main)
