"""Weights in int8, sums in float32: a third of the bytes at the speed and, but for rounding, the vectors of float32.

For processors whose int8 kernels are no faster than their float32 ones. The graph itself makes weights from small
integers and a scale for each output channel, by nodes that depend on no input: a runtime does so once, when it opens
the file. (It would not do so with `DequantizeLinear`, which onnxruntime keeps for int8 kernels and runs every time.)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cmpnas.export.graph import save_onnx
from cmpnas.export.int8 import compact
from cmpnas.export.proof import lost_points, told_points
from cmpnas.retrieval.compare import Comparison

_FORMAT = "weights int8, one scale an output channel, made float32 when the file is opened; all else float32"
_LARGEST = 127


def write_weights8(source: Path, out: Path) -> None:
    """Write the file of ``source`` with the weights of its convolutions and linear layers as integers."""
    model = onnx.load(str(source))
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    channels = {node.input[1]: _output_axis(node) for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    before = []
    for name in filter(stored.__contains__, channels):
        weights = numpy_helper.to_array(stored[name])
        graph.initializer.remove(stored[name])
        others = tuple(axis for axis in range(weights.ndim) if axis != channels[name] % weights.ndim)
        scale = np.abs(weights).max(others, keepdims=True) / np.float32(_LARGEST)
        whole = np.rint(weights / np.where(scale > 0, scale, 1)).astype(np.int8)
        parts = {f"{name}_int8": whole, f"{name}_scale": scale}
        graph.initializer.extend(numpy_helper.from_array(values, part) for part, values in parts.items())
        before += [
            onnx.helper.make_node("Cast", [f"{name}_int8"], [f"{name}_whole"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [name]),
        ]
    after = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *after])
    compact(graph)
    save_onnx(model, out)


def write_weights8_within(
    source: Path, out: Path, gain: Callable[[Path], Comparison], tolerance: float, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Write it if it loses no more than ``tolerance`` points; what a manifest says of it.

    Args:
        gain: a file's score over float32's, query by query.

    Returns:
        None where it loses more, which is said, and there is no file.
    """
    write_weights8(source, out)
    against = gain(out)
    if lost_points(against) > tolerance:
        say(f"weights in int8 LOSE {lost_points(against):.2f} POINTS, more than {tolerance:g}; no {out.name}")
        out.unlink()
        return None
    return {"format": _FORMAT, "tolerance_points": tolerance, "against_float32": told_points(against)}


def _output_axis(node: onnx.NodeProto) -> int:
    """Where in its weights the output channels of a layer are."""
    if node.op_type == "Conv":
        return 0
    return 0 if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else -1
