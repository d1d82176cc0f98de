"""What an ONNX model costs, read from its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
import onnx.shape_inference
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from cmpnas.cost.value import Cost
from cmpnas.errors import DataError
from cmpnas.files import hash_file, hash_of

Shape = Callable[[str], tuple[int, ...]]

_DOMAINS = ("", "ai.onnx")
_COUNTED = {
    "Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul",
}  # fmt: skip
#: What multiplies in ways that shapes alone, or this module, do not tell.
_UNCOUNTED = {
    "Attention", "CausalConvWithState", "DFT", "DeformConv", "Einsum", "GRU", "LSTM", "LinearAttention", "RNN", "STFT",
}  # fmt: skip
#: Parameters are stored as one of these; a quantised weight is one of the integers.
_PARAMETERS = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT8,
    TensorProto.UINT8,
}  # fmt: skip


@dataclass(frozen=True)
class ImageInput:
    """The input of a model that takes pictures ``(batch, 3, size, size)``; None is a dimension left open."""

    name: str
    batch: int | None
    size: int | None
    element: int


def read_onnx(path: Path) -> ModelProto:
    """The model in a file; weights kept in files beside it are not read.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as fault:
        raise DataError(f"cannot read {path}: {fault.strerror or fault}.") from None
    except Exception:  # protobuf's own kinds
        model = ModelProto()
    if not model.graph.node:
        raise DataError(f"{path} is damaged or no ONNX model; export it again.")
    return model


def hash_onnx(path: Path) -> str:
    """Hash of a model's file and of the files beside it that hold its weights.

    Raises:
        DataError: the file is missing or damaged.
    """
    entries = (entry for tensor in read_onnx(path).graph.initializer for entry in tensor.external_data)
    beside = sorted({entry.value for entry in entries if entry.key == "location"})
    own = hash_file(path)
    return own if own and not beside else hash_of(own, [hash_file(path.parent / name) for name in beside])


def image_input(model: ModelProto) -> ImageInput:
    """The one input of ``model``.

    Raises:
        DataError: it has several, or takes something else than square pictures of three channels.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise DataError(f"the ONNX model has {len(inputs)} inputs ({names}); export it with pictures as the only one.")
    tensor = inputs[0].type.tensor_type
    sides = [_fixed(side) for side in tensor.shape.dim]
    if len(sides) != 4 or sides[1] not in (3, None) or sides[2] != sides[3]:
        shown = ", ".join("?" if side is None else str(side) for side in sides)
        raise DataError(
            f"the ONNX model's input {inputs[0].name!r} is ({shown}); it must be (batch, 3, side, side). Export it so."
        )
    return ImageInput(inputs[0].name, sides[0], sides[2], tensor.elem_type)


def count_onnx(model: Path | ModelProto, size: int | None = None) -> Cost:
    """Exact multiply-adds and parameters of a model on one ``size`` x ``size`` picture; no peak memory.

    Counted is what the outputs need: convolutions and matrix products without biases, and the stored numbers but for
    single ones and running statistics. A folded BatchNorm has left one a channel, not two.

    Args:
        size: side in pixels; needed where the graph leaves it open.

    Raises:
        DataError: the file is missing or damaged, takes another size, or something that multiplies in it
            cannot be counted.
    """
    found = ModelProto()
    found.CopyFrom(read_onnx(model) if isinstance(model, Path) else model)
    if found.functions:
        found = onnx.inliner.inline_local_functions(found)
    size = agreed_size(image_input(found), size)
    nodes, shape = _needed(found.graph), _shapes(found, size)
    macs = sum(_macs(node, shape) for node in nodes)
    if macs == 0:
        raise DataError("the ONNX model multiplies nothing that can be counted; state its mflops.")
    return Cost(macs, _params(found.graph, nodes))


def agreed_size(taken: ImageInput, given: int | None) -> int:
    """The side of the pictures that a model is fed.

    Raises:
        DataError: the model's own is another than ``given``, which must be positive, or neither says.
    """
    if given is not None and given < 1:
        raise DataError(f"a size of {given} px is not positive; state another.")
    size = taken.size or given
    if size is None:
        raise DataError("the ONNX model takes pictures of any size; state the size.")
    if given not in (None, size):
        raise DataError(f"the ONNX model takes pictures of {size} px, not {given}; leave the size out.")
    return size


def _fixed(side: onnx.TensorShapeProto.Dimension) -> int | None:
    return side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None


def _needed(graph: GraphProto) -> list[NodeProto]:
    """The nodes that the outputs need."""
    used = {value.name for value in graph.output}
    needed = []
    for node in reversed(graph.node):  # a graph is sorted by use
        if used.intersection(node.output):
            used.update(name for name in _reads(node) if name)  # an input left out has no name
            needed.append(node)
    return needed


def _shapes(model: ModelProto, size: int) -> Shape:
    """Look-up of the shape of every value at batch 1, by name."""
    graph = model.graph
    (pictures,) = (value for value in graph.input if value.name == image_input(model).name)
    for side, length in zip(pictures.type.tensor_type.shape.dim, (1, 3, size, size), strict=True):
        side.dim_value = length
    del graph.value_info[:]  # they may hold another batch
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except Exception as fault:
        reason = str(fault).strip().splitlines()[0]
        raise DataError(f"the ONNX model does not fit pictures of {size} px ({reason}).") from None
    known = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        known[value.name] = _whole(value)

    def shape(name: str) -> tuple[int, ...]:
        found = known.get(name)
        if not found or 0 in found:
            raise DataError(
                f"the shape of {name!r} in the ONNX model is not known, so its cost is not; state its mflops."
            )
        return found

    return shape


def _whole(value: ValueInfoProto) -> tuple[int, ...]:
    """The shape of a value, 0 where it is not known."""
    return tuple(_fixed(side) or 0 for side in value.type.tensor_type.shape.dim)


def _macs(node: NodeProto, shape: Shape) -> int:
    """Multiply-adds of one node."""
    kind, (first, *rest) = node.op_type, node.input or [""]
    if node.domain not in _DOMAINS or kind in _UNCOUNTED or any(_multiplies(body) for body in _bodies(node)):
        name = f"{node.domain}.{kind}" if node.domain not in _DOMAINS else kind
        raise DataError(f"{name} in the ONNX model cannot be counted; state the model's mflops.")
    if kind not in _COUNTED:
        return 0
    if kind == "ConvTranspose":
        return math.prod(shape(first)) * math.prod(shape(rest[0])[1:])
    outputs = math.prod(shape(node.output[0]))
    if kind in ("Conv", "ConvInteger", "QLinearConv"):
        kernel = rest[2] if kind == "QLinearConv" else rest[0]
        return outputs * math.prod(shape(kernel)[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return outputs * shape(first)[0 if transposed else -1]


def _reads(node: NodeProto) -> Iterator[str]:
    """Names of what a node reads, graphs inside it included."""
    yield from node.input
    for body in _bodies(node):
        for inner in _inside(body):
            yield from inner.input


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _inside(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for body in _bodies(node):
            yield from _inside(body)


def _multiplies(body: GraphProto) -> bool:
    """Whether anything in it would have to be counted, which how often it runs does not tell."""
    return any(n.domain not in _DOMAINS or n.op_type in _COUNTED | _UNCOUNTED for n in _inside(body))


def _params(graph: GraphProto, nodes: list[NodeProto]) -> int:
    """Stored numbers that the nodes read."""
    used = {name for node in nodes for name in _reads(node)}
    used -= {name for node in nodes if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    stored = [tensor for tensor in graph.initializer if tensor.name in used]
    constants = [attribute.t for node in nodes if node.op_type == "Constant" for attribute in node.attribute]
    sizes = [math.prod(tensor.dims) for tensor in (*stored, *constants) if tensor.data_type in _PARAMETERS]
    return sum(size for size in sizes if size > 1)
