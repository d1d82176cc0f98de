"""Static int8 of an ONNX file, and which layers must stay in float32 for it to be of use.

Weights have a scale for each output channel: channels of a depthwise layer differ so much that one scale for all ruins
it. Where that is not enough, each layer is quantised alone to see what it does to the vectors, and the worst ones
stay in float32, as few as bring the retrieval score back.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cmpnas.errors import RunError
from cmpnas.export.graph import run_onnx, save_onnx
from cmpnas.export.proof import lost_points, told_points
from cmpnas.progress import track
from cmpnas.retrieval.compare import Comparison

#: Node types that compute in int8; others only pass numbers on or are part of one of these.
_LAYERS = ("Conv", "Gemm", "MatMul", "Add", "Mul", "ReduceMean", "GlobalAveragePool", "AveragePool")
_FORMAT = "QDQ; activations uint8, one scale a tensor; weights int8, one scale an output channel"


@dataclass
class Quantiser:
    """Int8 variants of one file.

    Args:
        source: an ONNX file with BatchNorm folded, as the exporter leaves it.
        batches: pictures to calibrate on, as the file takes them; of the training split.
        scratch: a folder; activations' ranges are measured once and kept there.
    """

    source: Path
    batches: Callable[[], Iterator[np.ndarray]]
    scratch: Path
    layers: dict[str, str] = field(init=False)  #: names for people (of the weights where there are any) by node

    def __post_init__(self) -> None:
        model = onnx.load(str(self.source))
        _pool(model.graph)
        onnx.save_model(model, str(self._base))
        weights = {tensor.name for tensor in model.graph.initializer}
        self.layers = {node.name: _name(node, weights) for node in model.graph.node if node.op_type in _LAYERS}

    @property
    def _base(self) -> Path:
        """The source as it is quantised."""
        return self.scratch / "base.onnx"

    def write(self, out: Path, *, only: Sequence[str] = (), keep: Sequence[str] = ()) -> None:
        """Write the file with all layers in int8 but for the nodes in ``keep``, or ``only`` some."""
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self, batches: Iterator[np.ndarray]) -> None:
                self._batches = batches

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self._batches, None)
                return None if batch is None else {"images": batch}

        with _quiet():
            quantize_static(
                self._base, out, Reader(self.batches()),
                quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                per_channel=True, nodes_to_quantize=list(only), nodes_to_exclude=list(keep),
                calibration_cache_path=self.scratch / "ranges.json",
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
            )  # fmt: skip
        model = onnx.load(str(out))
        compact(model.graph)
        save_onnx(model, out)

    def sensitivity(self) -> dict[str, float]:
        """What int8 of each layer alone costs the vectors: one minus their mean cosine with float32's. Worst first."""
        some, trial = next(self.batches()), self.scratch / "one.onnx"
        expected = run_onnx(self.source)(some)
        harm = {}
        for node in track(list(self.layers), "int8 sensitivity", total=len(self.layers)):
            self.write(trial, only=[node])
            harm[node] = 1 - float((run_onnx(trial)(some) * expected).sum(1).mean())
        return dict(sorted(harm.items(), key=lambda entry: -entry[1]))


def quantise_within(
    quantiser: Quantiser,
    out: Path,
    gain: Callable[[Path], Comparison],
    tolerance: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write an int8 file that loses no more than ``tolerance`` points, with as few layers in float32 as that takes.

    Args:
        gain: a file's score over float32's, query by query.

    Returns:
        What a manifest says of it: the loss with everything in int8, what was kept and why, the loss in the end.

    Raises:
        RunError: only float32 is within the tolerance.
    """
    quantiser.write(out)
    first = last = gain(out)
    report: dict[str, Any] = {
        "format": _FORMAT,
        "tolerance_points": tolerance,
        "layers": len(quantiser.layers),
        "everything_int8": told_points(first),
        "kept_float32": [],
    }
    if lost_points(first) > tolerance:
        say(
            f"int8: ALL LAYERS IN INT8 LOSE {lost_points(first):.2f} POINTS, more than {tolerance:g}; "
            "looking for those that must stay in float32"
        )
        harm = quantiser.sensitivity()
        kept, last = _fewest(quantiser, list(harm), out, gain, tolerance)
        report["kept_float32"] = [{"layer": quantiser.layers[node], "sensitivity": harm[node]} for node in kept]
        names = ", ".join(quantiser.layers[node] for node in kept)
        say(
            f"int8: {len(kept)} of {len(harm)} layers stay in float32 and the loss is {lost_points(last):.2f} points: "
            f"{names}"
        )
    return report | {"against_float32": told_points(last)}


def _fewest(
    quantiser: Quantiser, order: list[str], out: Path, gain: Callable[[Path], Comparison], tolerance: float
) -> tuple[list[str], Comparison]:
    """The shortest beginning of ``order`` to keep in float32, by bisection; ``out`` holds the file that it makes."""
    too_few, enough = 0, len(order)
    found: dict[int, Comparison] = {}
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        quantiser.write(out, keep=order[:middle])
        found[middle] = gain(out)
        if lost_points(found[middle]) > tolerance:
            too_few = middle
        else:
            enough = middle
    if enough not in found:
        raise RunError(
            f"no int8 file is within {tolerance:g} points of float32; leave --int8 out or raise --tolerance."
        )
    quantiser.write(out, keep=order[:enough])
    return order[:enough], found[enough]


def _pool(graph: onnx.GraphProto) -> None:
    """Write the mean of each channel's map as the pooling that it is: onnxruntime has that in int8, the mean not."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        axes = stored.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) == 2 else None
        flat = any(attribute.name == "keepdims" and attribute.i == 0 for attribute in node.attribute)
        if axes is None or not flat or onnx.numpy_helper.to_array(axes).tolist() not in ([2, 3], [-2, -1]):
            graph.node.append(node)
            continue
        pooled = f"{node.output[0]}_pooled"
        graph.node.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], [pooled], f"{node.name}_pool"))
        graph.node.append(onnx.helper.make_node("Flatten", [pooled], node.output, f"{node.name}_flat"))
    read = {name for node in graph.node for name in node.input}
    for name in stored.keys() - read:
        graph.initializer.remove(stored[name])


def compact(graph: onnx.GraphProto) -> None:
    """Keep equal constants once and names short: in a small network they weigh as much as its weights do."""
    known: dict[bytes, str] = {}
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    stored = list(graph.initializer)
    del graph.initializer[:]
    for tensor in stored:
        name, tensor.name = tensor.name, ""
        content = tensor.SerializeToString(deterministic=True)
        weights = len(tensor.dims) > 1  # they keep their names
        if content not in known:
            known[content] = names[name] = tensor.name = name if weights else f"c{len(known)}"
            graph.initializer.append(tensor)
        names[name] = known[content]
    for node in graph.node:
        node.name = ""
        for part in node.output:
            names.setdefault(part, f"t{len(names)}")
        node.input[:] = [names[part] if part else "" for part in node.input]
        node.output[:] = [names[part] for part in node.output]
    del graph.value_info[:]  # of the old names


def _name(node: onnx.NodeProto, weights: set[str]) -> str:
    stored = [name for name in node.input if name in weights and name.endswith(".weight")]
    return stored[0].rpartition("network.")[2].removesuffix(".weight") if stored else node.name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's advice away from the user."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
