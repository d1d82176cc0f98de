"""ONNX graphs of single layers, and of networks as chains of them.

A carved network runs its layers one after the other, so the chain of their graphs is the network's graph. Exporting
each operator once is what makes thousands of networks affordable.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from cmpnas.models.blocks import build_layer
from cmpnas.space import Layer

_OPSET = 18


class Normalise(nn.Module):
    """The last step of an exported query encoder: unit embeddings."""

    def forward(self, embeddings: Tensor) -> Tensor:
        return nn.functional.normalize(embeddings)


def layer_graph(layer: Layer, batch: int) -> ModelProto:
    """The graph of ``layer`` for maps of exactly its size, `hollow`."""
    return hollow(module_graph(build_layer(layer), (batch, layer.cin, layer.size, layer.size)))


@cache
def normalise_graph(batch: int, width: int) -> ModelProto:
    """The graph of the last step of an exported encoder."""
    return module_graph(Normalise(), (batch, width))


@torch.no_grad()
def module_graph(module: nn.Module, shape: tuple[int, ...]) -> ModelProto:
    """The graph of ``module`` from ``x`` of this shape to ``y``.

    By torch's older exporter: the newer one gives the same operators after onnxruntime's optimisation, a hundred
    times slower for one layer.
    """
    _register()
    file, quiet = io.BytesIO(), io.StringIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.zeros(shape),), file, dynamo=False, opset_version=_OPSET,  # type: ignore[arg-type]
            input_names=["x"], output_names=["y"],
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


@cache
def _register() -> None:
    """Teach the exporter the shuffle, as the newer one spells it: reshape, transpose, reshape."""
    from torch.onnx import symbolic_helper, utils

    def shuffle(graph, maps, groups):  # type: ignore[no-untyped-def]
        batch, channels, height, width = maps.type().sizes()

        def reshape(value, *shape):  # type: ignore[no-untyped-def]
            return graph.op("Reshape", value, graph.op("Constant", value_t=torch.tensor(shape)))

        split = reshape(maps, batch, groups, channels // groups, height, width)
        return reshape(graph.op("Transpose", split, perm_i=[0, 2, 1, 3, 4]), batch, channels, height, width)

    parsed = symbolic_helper.parse_args("v", "i")(shuffle)
    utils.register_custom_op_symbolic("aten::channel_shuffle", parsed, _OPSET)


def hollow(model: ModelProto) -> ModelProto:
    """``model`` without the values of its weights: a thousandth of the size."""
    for tensor in _weights(model):
        tensor.ClearField("raw_data")
    return model


def filled(model: ModelProto) -> ModelProto:
    """A copy of a `hollow` model with weights that average, which take as long as any others."""
    whole = ModelProto()
    whole.CopyFrom(model)
    for tensor in _weights(whole):
        shape = tuple(tensor.dims)
        tensor.raw_data = np.full(shape, 1 / math.prod(shape[1:]), np.float32).tobytes()
    return whole


def _weights(model: ModelProto) -> list[TensorProto]:
    """Kernels and matrices of ``model``."""
    return [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]


def is_idle(model: ModelProto) -> bool:
    """Whether a graph hands its input on as it is."""
    return all(node.op_type == "Identity" for node in model.graph.node)


def chain(parts: Sequence[ModelProto]) -> ModelProto:
    """One graph that feeds each part's ``y`` to the next part's ``x``."""
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    last = "x"
    for number, part in enumerate(parts):
        prefix, graph = f"{number}/", part.graph
        for node in graph.node:
            renamed = NodeProto()
            renamed.CopyFrom(node)
            renamed.name = prefix + node.name
            renamed.input[:] = [_renamed(name, prefix, last) for name in node.input]
            renamed.output[:] = [prefix + name for name in node.output]
            nodes.append(renamed)
        for tensor in graph.initializer:
            weights.append(TensorProto())
            weights[-1].CopyFrom(tensor)
            weights[-1].name = prefix + tensor.name
        last = prefix + "y"
    ends = parts[0].graph.input[0], onnx.ValueInfoProto()
    ends[1].CopyFrom(parts[-1].graph.output[0])
    ends[1].name = last
    graph = helper.make_graph(nodes, "network", [ends[0]], [ends[1]], weights)
    return helper.make_model(graph, opset_imports=parts[0].opset_import, ir_version=parts[0].ir_version)


def _renamed(name: str, prefix: str, last: str) -> str:
    """A name within one part of a chain; an input left out has none."""
    return {"": "", "x": last}.get(name, prefix + name)
