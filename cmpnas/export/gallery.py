"""The gallery side: one ONNX file from pictures to the vectors that an index stores.

A gallery kind is exported by a line in `write_gallery` that says what its encoder is: a module, which is traced, or
a graph that somebody else made, which is put between what feeds it and what follows it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import compose, version_converter
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.errors import RunError
from cmpnas.export.graph import save_onnx, script_onnx, trace, write_onnx
from cmpnas.export.pictures import Pictures, UnitEncoder
from cmpnas.gallery.base import Gallery
from cmpnas.gallery.brought import BroughtGallery
from cmpnas.gallery.frozen import FrozenModel, reason_of
from cmpnas.gallery.onnx import OnnxRun
from cmpnas.gallery.single import SingleGallery


def write_gallery(option: Gallery, taken: Pictures, path: Path) -> nn.Module:
    """Write the encoder of ``option``, in float32.

    Returns:
        What was written, but for the preparation of pictures and normalisation.

    Raises:
        RunError: it has none, or one that cannot be written as a graph.
    """
    if isinstance(option, SingleGallery):
        _write(nn.Sequential(taken.preparation(), UnitEncoder(option.network)), taken, path)
    elif isinstance(option, BroughtGallery):
        _write_brought(option, taken, path)
    else:
        raise RunError(f"gallery {option.settings.name!r} has no model to export; leave --gallery out.")
    return option.network


def _write_brought(option: BroughtGallery, taken: Pictures, path: Path) -> None:
    """A finished model between its feed and, where it has one, its projection."""
    model, projection = option.network, nn.Sequential()
    if option.settings.projection is not None:
        model, projection = option.network[0], option.network[1]  # type: ignore[index]
    if not isinstance(model, FrozenModel):
        raise RunError(f"gallery {option.settings.name!r} is a {type(model).__name__}, not a finished model.")
    before, after = nn.Sequential(taken.preparation(), model.feed), _Finish(projection)
    if isinstance(model.run, OnnxRun):
        run = model.run
        if run.taken.batch == 1:
            raise RunError(f"{run.path} takes one picture at a time; leave --gallery out, or export it with more.")
        if run.taken.element == onnx.TensorProto.FLOAT16:
            before.append(_Half())
        _write_around(before, onnx.load(str(run.path)), (run.taken.name, run.output), after, model.width, taken, path)
    elif isinstance(model.run, torch.jit.ScriptModule):
        own = script_onnx(model.run, np.zeros((2, 3, model.size, model.size), np.float32))
        _write_around(before, own, ("images", "embedding"), after, model.width, taken, path)
    else:
        _write(nn.Sequential(before, model.run, after), taken, path)  # type: ignore[call-overload]


class _Finish(nn.Module):
    """Features ``(N, W)`` or ``(N, W, 1, 1)`` of any float type to unit vectors."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.projection(features.flatten(1).float()))


def _write(encoder: nn.Module, taken: Pictures, path: Path) -> None:
    write_onnx(trace(encoder.cpu(), taken.example(2)), path)


def _write_around(
    before: nn.Module,
    own: onnx.ModelProto,
    ends: tuple[str, str],
    after: nn.Module,
    width: int,
    taken: Pictures,
    path: Path,
) -> None:
    """A graph that somebody else made, with what feeds its input in front and what follows its output behind."""
    _write(before, taken, path)
    first = onnx.load(str(path))
    write_onnx(trace(after.cpu(), np.zeros((2, width), np.float32)), path)
    last = onnx.load(str(path))
    try:
        own = version_converter.convert_version(own, first.opset_import[0].version)
        own.ir_version = last.ir_version = first.ir_version
        first, own, last = (
            compose.add_prefix(part, f"{name}/") for name, part in (("before", first), ("model", own), ("after", last))
        )
        taking, giving = (f"model/{end}" for end in ends)
        joined = compose.merge_models(first, own, [("before/embedding", taking)], outputs=[giving])
        joined = compose.merge_models(joined, last, [(giving, "after/images")])
    except Exception as fault:  # onnx raises many kinds
        raise RunError(
            f"the gallery model cannot be put into one graph ({reason_of(fault)}); leave --gallery out."
        ) from None
    renamed = {"before/images": "images", "after/embedding": "embedding"}
    for value in (*joined.graph.input, *joined.graph.output):
        value.name = renamed.get(value.name, value.name)
    for node in joined.graph.node:
        node.input[:] = [renamed.get(part, part) for part in node.input]
        node.output[:] = [renamed.get(part, part) for part in node.output]
    save_onnx(joined, path)


class _Half(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.half()
