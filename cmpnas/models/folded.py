"""The convolutions of an ONNX file, with everything linear behind and before them folded in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import GraphProto, numpy_helper
from torch import Tensor

from cmpnas.cost.onnx import read_onnx
from cmpnas.errors import DataError

#: A kernel ``(O, I, k, k)`` and a bias ``(O,)``, float32.
Folded = tuple[Tensor, Tensor]


def folded_convolutions(path: Path, mean: tuple[float, float, float], std: tuple[float, float, float]) -> list[Folded]:
    """Every convolution of the model in ``path``, in the order in which it computes them.

    A BatchNorm behind a convolution becomes part of it, and so does, in the first one, going from pictures in [-1, 1]
    to those that the model was trained on, with ``mean`` and ``std`` of red, green and blue in 0..1. (That is exact
    but for the border, which is padded with zeros.)

    Raises:
        DataError: the file is missing or damaged, or keeps the weights of a convolution otherwise than as floats.
    """
    model = read_onnx(path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as fault:
        raise DataError(f"weights beside {path} cannot be read ({fault}); export the model to one file.") from None
    graph = model.graph
    stored = _floats(graph)
    norms = {node.input[0]: node for node in graph.node if node.op_type == "BatchNormalization"}
    found: list[Folded] = []
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        norm = norms.get(node.output[0])
        needed = [*node.input[1:], *(norm.input[1:5] if norm is not None else ())]
        if missing := [name for name in needed if name not in stored]:
            raise DataError(f"{path}: {missing[0]!r} of a convolution is not stored as floats; bring a float model.")
        kernel = stored[node.input[1]]
        bias = stored[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernel))
        if norm is not None:
            scale, shift, centre, variance = (stored[name] for name in norm.input[1:5])
            eps = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
            scale = scale / np.sqrt(variance + eps)
            kernel, bias = kernel * scale[:, None, None, None], (bias - centre) * scale + shift
        if not found and kernel.shape[1] == 3:
            bias = bias + np.einsum("oihw,i->o", kernel, (0.5 - np.array(mean)) / std)
            kernel = kernel * (0.5 / np.array(std))[:, None, None]
        found.append((torch.tensor(kernel, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32)))
    return found


def _floats(graph: GraphProto) -> dict[str, np.ndarray]:
    """What a graph stores as floats, as float64."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    found = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    return {name: value.astype(np.float64) for name, value in found.items() if value.dtype.kind == "f"}
