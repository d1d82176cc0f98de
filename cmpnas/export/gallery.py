"""The gallery side: one ONNX file from pictures to the vectors that an index stores.

A gallery kind is exported by a branch in `_graph` that says what its encoder is: a module, which is traced; a graph
that somebody else made, between what feeds it and what follows it; or several of these and what combines them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.export.graph import as_onnx, save_onnx, script_onnx, trace
from cmpnas.export.join import Branch, NoGraphError, join
from cmpnas.export.parts import parts_of
from cmpnas.export.pictures import Pictures, UnitEncoder
from cmpnas.gallery.base import Option
from cmpnas.gallery.brought import BroughtGallery
from cmpnas.gallery.frozen import FrozenModel
from cmpnas.gallery.onnx import OnnxRun
from cmpnas.gallery.single import SingleGallery
from cmpnas.gallery.views import Spread, Views, ViewsGallery
from cmpnas.train.device import device


def write_gallery(option: Option, taken: Pictures, path: Path) -> None:
    """Write the encoder of ``option``, in float32: from pictures to what its index stores.

    Where the option rejects images, the file gives their members' ``distance`` beside the ``embedding``.

    Raises:
        NoGraphError: there are only saved vectors of one of its models, or one cannot be put into a graph.
    """
    save_onnx(_graph(option, taken), path)


def in_float32(option: Option) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """What that file must give of pictures ``(N, 3, S, S)``, by whatever runs the models here."""
    if isinstance(option, ViewsGallery):
        own = in_float32(option.model)
        views = UnitEncoder(Views(lambda images: own(images)[0], option.settings)).to(device()).eval()
        return lambda images: (views(images),)
    parts = parts_of(option)
    if parts is None:
        encoder = UnitEncoder(option.network).to(device()).eval()  # type: ignore[attr-defined]
        return lambda images: (encoder(images),)
    encoders = [in_float32(model) for model in parts.models.values()]
    combine: Callable[[list[Tensor]], tuple[Tensor, ...]] = parts.combine.to(device()).eval()
    return lambda images: combine([encode(images)[0] for encode in encoders])


def _graph(option: Option, taken: Pictures) -> onnx.ModelProto:
    if isinstance(option, SingleGallery):
        return _traced(nn.Sequential(taken.preparation(), UnitEncoder(option.network)), taken.example(2))
    if isinstance(option, ViewsGallery):
        return _of_views(option, taken)
    if isinstance(option, BroughtGallery):
        return _brought(option, taken)
    parts = parts_of(option)
    if parts is None:
        raise NoGraphError(f"gallery {option.settings.name!r} has no model to export")  # type: ignore[attr-defined]
    if not parts.models:
        raise NoGraphError(
            f"gallery {option.settings.name!r} is mixed of local or saved features"  # type: ignore[attr-defined]
        )
    ready = Pictures(taken.size)
    branches = {name: Branch(_graph(model, ready), "images", "embedding") for name, model in parts.models.items()}
    return join(_traced(taken.preparation(), taken.example(2)), branches, parts.graph())


def _of_views(option: ViewsGallery, taken: Pictures) -> onnx.ModelProto:
    """Its anchor's own graph between what shows it several views and what takes their mean."""
    shown, width = 1 + option.settings.views, option.model.embedding_dim
    first = _traced(nn.Sequential(taken.preparation(), Spread(option.settings)), taken.example(2))
    own = Branch(_graph(option.model, Pictures(taken.size)), "images", "embedding")
    # Written out, as what is traced of a free batch cannot be told that its length divides.
    mean = onnx.parser.parse_model(f"""
        <ir_version: {first.ir_version}, opset_import: ["": {first.opset_import[0].version}]>
        mean (float[every, {width}] vectors) => (float[batch, {width}] embedding) {{
            grouped = Constant<value_ints = [-1, {shown}, {width}]> ()
            by_image = Reshape (vectors, grouped)
            views = Constant<value_ints = [1]> ()
            total = ReduceSum<keepdims = 0> (by_image, views)
            embedding = LpNormalization<axis = 1, p = 2> (total)
        }}""")
    return join(first, {"vectors": own}, mean)


def _brought(option: BroughtGallery, taken: Pictures) -> onnx.ModelProto:
    """A finished model between its feed and, where it has one, its projection."""
    name, model, projection = option.settings.name, option.network, nn.Sequential()
    if option.settings.projection is not None:
        model, projection = option.network[0], option.network[1]  # type: ignore[index]
    if not isinstance(model, FrozenModel):
        raise NoGraphError(f"gallery {name!r} is a {type(model).__name__}, not a finished model")
    before, after = nn.Sequential(taken.preparation(), model.feed), _Finish(projection)
    if isinstance(model.run, OnnxRun):
        run = model.run
        if run.taken.batch == 1:
            raise NoGraphError(f"gallery {name!r}: {run.path} takes one picture at a time; export it with more")
        if run.taken.element == onnx.TensorProto.FLOAT16:
            before.append(_Half())
        own = _levelled(onnx.load(str(run.path)), run.taken.name, run.output, model.width)
    elif isinstance(model.run, torch.jit.ScriptModule):
        scripted = script_onnx(model.run.cpu(), np.zeros((2, 3, model.size, model.size), np.float32))
        model.run.to(device())
        own = _levelled(scripted, "images", "embedding", model.width)
    else:
        return _traced(nn.Sequential(before, model.run, after), taken.example(2))  # type: ignore[call-overload]
    last = as_onnx(trace(after.cpu(), np.zeros((2, model.width), np.float32)), (name,))
    return join(_traced(before, taken.example(2)), {name: own}, last)


def _traced(encoder: nn.Module, example: np.ndarray) -> onnx.ModelProto:
    return as_onnx(trace(encoder.cpu(), example))


def _levelled(model: onnx.ModelProto, takes: str, gives: str, width: int) -> Branch:
    """A model's graph whose output, ``(N, W)`` or ``(N, W, 1, 1)`` of any float type, is float32 ``(N, W)``."""
    floats, flat = f"{gives}.float32", f"{gives}.flat"
    model.graph.node.extend(
        [
            onnx.helper.make_node("Cast", [gives], [floats], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Flatten", [floats], [flat], axis=1),
        ]
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info(flat, onnx.TensorProto.FLOAT, [None, width]))
    return Branch(model, takes, flat)


class _Finish(nn.Module):
    """Features ``(N, W)`` or ``(N, W, 1, 1)`` of any float type to unit vectors."""

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.projection(features.flatten(1).float()))


class _Half(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.half()
