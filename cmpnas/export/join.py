"""Several ONNX graphs as one: pictures go to each of some models, and what these say to what combines them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, compose, version_converter

from cmpnas.errors import RunError
from cmpnas.gallery.frozen import reason_of

_FIRST, _LAST = "before/", "after/"


class NoGraphError(RunError):
    """A gallery option cannot be one graph from pictures."""


@dataclass(frozen=True)
class Branch:
    """A graph, the one of its inputs that takes pictures, and the one of its outputs that is wanted."""

    model: ModelProto
    takes: str
    gives: str


def join(first: ModelProto, branches: Mapping[str, Branch], last: ModelProto) -> ModelProto:
    """One graph with the input of ``first`` and the outputs of ``last``.

    Args:
        first: from whatever is taken to pictures, of the same opset as ``last``.
        branches: from these pictures to vectors, each by the name of the input of ``last`` that takes them.

    Raises:
        NoGraphError: onnx cannot put them together.
    """
    opset, version = first.opset_import[0].version, first.ir_version
    try:
        whole = compose.add_prefix(first, _FIRST)
        pictures = whole.graph.output[0].name
        wires: list[tuple[str, str]] = []
        for name, branch in branches.items():
            own, prefix = branch.model, f"{name}/model/"
            if own.opset_import[0].version != opset:
                own = version_converter.convert_version(own, opset)
            own = compose.add_prefix(own, prefix)
            own.ir_version = version
            given = prefix + branch.gives
            kept = [pictures, *(said for said, _ in wires), given]
            whole = compose.merge_models(whole, own, [(pictures, prefix + branch.takes)], outputs=kept)
            wires.append((given, _LAST + name))
        end = compose.add_prefix(last, _LAST)
        end.ir_version = version
        whole = compose.merge_models(whole, end, wires, outputs=[value.name for value in end.graph.output])
    except Exception as fault:  # onnx raises many kinds
        raise NoGraphError(f"{', '.join(branches)} cannot be put into one graph ({reason_of(fault)})") from None
    del whole.graph.value_info[:]  # a branch's "batch" need not be the whole's
    return _plainly_named(whole)


def _plainly_named(model: ModelProto) -> ModelProto:
    """``model`` with the names that its inputs and outputs had before they were joined."""
    graph = model.graph
    plain = {value.name: value.name.removeprefix(_FIRST).removeprefix(_LAST) for value in (*graph.input, *graph.output)}
    for value in (*graph.input, *graph.output):
        value.name = plain[value.name]
    for node in graph.node:
        node.input[:] = [plain.get(name, name) for name in node.input]
        node.output[:] = [plain.get(name, name) for name in node.output]
    return model
