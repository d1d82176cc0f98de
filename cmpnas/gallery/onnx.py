"""An ONNX file as a gallery model, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor

from cmpnas.cost.onnx import ImageInput, agreed_size, count_onnx, image_input, read_onnx
from cmpnas.errors import DataError, unknown
from cmpnas.files import hash_file, hash_of
from cmpnas.gallery.frozen import FrozenModel, reason_of
from cmpnas.gallery.settings import OnnxSettings

_TYPES: dict[int, type] = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


@dataclass(frozen=True)
class OnnxRun:
    """An ONNX file as a function of float pictures ``(B, 3, S, S)`` to its ``output``, float32."""

    path: Path
    output: str
    taken: ImageInput
    session: Any

    def __call__(self, pictures: Tensor) -> Tensor:
        pixels: np.ndarray = pictures.cpu().numpy().astype(_TYPES[self.taken.element])
        parts = np.split(pixels, len(pixels)) if self.taken.batch == 1 else [pixels]
        found = [self.session.run([self.output], {self.taken.name: part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(found).astype(np.float32))


def open_onnx(settings: OnnxSettings, path: Path, size: int) -> FrozenModel:
    """Open a model; ``size`` is for one that takes any and settings that state none.

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
    run = OnnxRun(path, output, taken, _session(path))
    fingerprint = hash_of(hash_file(path), [hash_file(path.parent / name) for name in _beside(model)])
    return FrozenModel(settings, run, side, lambda: count_onnx(model, side, output).macs, fingerprint)


def _session(path: Path):  # type: ignore[no-untyped-def]
    """The model on the first GPU if this onnxruntime knows it, else on as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its errors reach the user as ours
    known = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as fault:  # onnxruntime's own kinds
        raise DataError(f"{path} cannot be run ({reason_of(fault)}); export it again.") from None


def _beside(model: ModelProto) -> list[str]:
    """Names of the files beside the model's own that hold its weights."""
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})
