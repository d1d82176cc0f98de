"""An ONNX file as a gallery model, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper, load
from torch import Tensor

from cmpnas.cost.onnx import ImageInput, agreed_size, count_onnx, hash_onnx, image_input, read_onnx
from cmpnas.errors import DataError, unknown
from cmpnas.gallery.frozen import FrozenModel, reason_of
from cmpnas.gallery.settings import OnnxSettings

_A_THREAD = 4  # pictures at once; of 64 a MobileNetV2 takes 1.6 times as long an image and ten times the memory
_TYPES: dict[int, type] = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


@dataclass(frozen=True)
class OnnxRun:
    """An ONNX file as a function of float pictures ``(B, 3, S, S)`` to its ``output``, float32."""

    path: Path
    output: str
    taken: ImageInput
    session: Any

    @property
    def _at_once(self) -> int:
        """Pictures in one call: on processors few, whose feature maps stay in the caches."""
        if self.taken.batch == 1:
            return 1
        on_gpu = self.session.get_providers()[0] == "CUDAExecutionProvider"
        return 4096 if on_gpu else _A_THREAD * torch.get_num_threads()

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.give(pictures, [self.output])[0]

    def give(self, pictures: Tensor, names: list[str]) -> list[Tensor]:
        """Several outputs at once."""
        pixels: np.ndarray = pictures.cpu().numpy().astype(_TYPES[self.taken.element])
        parts = [pixels[start : start + self._at_once] for start in range(0, len(pixels), self._at_once)]
        found = zip(*(self.session.run(names, {self.taken.name: part}) for part in parts), strict=True)
        return [torch.from_numpy(np.concatenate(of_parts).astype(np.float32)) for of_parts in found]


def open_onnx(settings: OnnxSettings, path: Path, size: int, map_output: str | None = None) -> FrozenModel:
    """Open a model; ``size`` is for one that takes any and settings that state none.

    ``map_output`` names any value of its graph that shall be given beside the embedding.

    Raises:
        DataError: the file is damaged, does not take pictures, or its cost is not known.
    """
    model = read_onnx(path)
    taken = image_input(model)
    if taken.element not in _TYPES:
        kind = TensorProto.DataType.Name(taken.element).lower()
        raise DataError(f"the ONNX model's input {taken.name!r} is {kind}; it must be float or float16.")
    if taken.batch not in (1, None):
        raise DataError(f"the ONNX model takes {taken.batch} pictures at a time; export it with a dynamic batch.")
    outputs = [value.name for value in model.graph.output]
    output = settings.output or outputs[0]
    if output not in outputs:
        raise DataError(unknown("output", output, outputs))
    side = agreed_size(taken, settings.size) if settings.size or taken.size else size
    wanted = [output]
    if map_output is not None:
        _give_too(model, map_output)
        wanted.append(map_output)
    for value in [value for value in model.graph.output if value.name not in wanted]:
        model.graph.output.remove(value)  # what nobody asks for costs nothing
    run = OnnxRun(path, output, taken, open_session(path, map_output))
    return FrozenModel(
        settings,
        run,
        side,
        lambda: count_onnx(model, side).macs,
        hash_onnx(path),
        run_with_map=None if map_output is None else lambda pictures: run.give(pictures, wanted),
    )


def _give_too(model: ModelProto, value: str) -> None:
    """Make a value of the graph one of its outputs.

    Raises:
        DataError: no node gives it.
    """
    if value in {known.name for known in model.graph.output}:
        return
    given = [name for node in model.graph.node for name in node.output if name]
    if value not in given:
        last = ", ".join(given[-6:])
        raise DataError(f"no node of the ONNX model gives {value!r}; the last give {last}.")
    model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))


def open_session(path: Path, map_output: str | None = None):  # type: ignore[no-untyped-def]
    """The model on the first GPU if this onnxruntime knows it, else on as many threads as torch has; it gives
    ``map_output`` too."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its errors reach the user as ours
    known = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
    try:
        source: str | bytes = str(path)
        if map_output is not None:
            whole = load(path)
            _give_too(whole, map_output)
            source = whole.SerializeToString()
        return onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as fault:  # onnxruntime's own kinds
        raise DataError(f"{path} cannot be run ({reason_of(fault)}); export it again.") from None
