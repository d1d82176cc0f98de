"""Encoders as ``torch.export`` programs and as ONNX graphs, and running both."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.export import ExportedProgram

from cmpnas.errors import RunError
from cmpnas.gallery.frozen import reason_of

#: Pictures as a file takes them to unit vectors, float32 ``(N, D)``.
Runner = Callable[[np.ndarray], np.ndarray]
#: Arrays by the names of a file's inputs to arrays by the names of its outputs.
NamedRunner = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]

_LARGEST_BATCH = 4096


def trace(encoder: nn.Module, example: np.ndarray | list[np.ndarray]) -> ExportedProgram:
    """The program of ``encoder`` for batches of any size; ``example`` holds at least two pictures.

    A list, of arrays with the batch in front each, is handed over as one list of tensors.
    """
    taken = [torch.from_numpy(part) for part in example] if isinstance(example, list) else torch.from_numpy(example)
    free = _any_batch(len(example))
    with _quiet(), torch.no_grad():
        shapes = (list(free),) if isinstance(example, list) else free[:1]
        program = torch.export.export(encoder.eval(), (taken,), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    program.example_inputs = None  # type: ignore[assignment]  # would be saved
    return program


def _any_batch(inputs: int) -> tuple[dict[int, Any], ...]:
    """That the first axis of each input may be of any length, the same of all."""
    return ({0: torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)},) * inputs


def write_program(program: ExportedProgram, path: Path) -> None:
    """Save as a ``.pt2`` archive."""
    with _quiet():
        torch.export.save(program, path)


def write_onnx(
    program: ExportedProgram, path: Path, inputs: Sequence[str] = ("images",), outputs: Sequence[str] = ("embedding",)
) -> None:
    """Write one file with inputs and outputs of these names, without a trace of the machine it was made on."""
    save_onnx(as_onnx(program, inputs, outputs), path)


def as_onnx(
    program: ExportedProgram, inputs: Sequence[str] = ("images",), outputs: Sequence[str] = ("embedding",)
) -> onnx.ModelProto:
    """A program of `trace` as a graph with inputs and outputs of these names."""
    with _quiet():
        exported = torch.onnx.export(
            program, dynamo=True, input_names=list(inputs), output_names=list(outputs),
            dynamic_shapes=_any_batch(len(inputs)), verbose=False,
        )  # fmt: skip
    model: onnx.ModelProto = exported.model_proto  # type: ignore[union-attr]
    return model


def write_free_onnx(
    module: nn.Module, examples: dict[str, np.ndarray], free: dict[str, dict[int, tuple[str, int, int]]], path: Path
) -> None:
    """Write ``module`` with inputs called as the ``examples``, of which some axes are ``free``: named, from, to."""
    shapes = tuple(
        {axis: torch.export.Dim(name, min=low, max=high) for axis, (name, low, high) in free.get(taken, {}).items()}
        for taken in examples
    )
    arguments = tuple(torch.from_numpy(example) for example in examples.values())
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            module.eval(), arguments, dynamo=True, input_names=list(examples), output_names=["found"],
            dynamic_shapes=shapes, verbose=False,
        )  # fmt: skip
    save_onnx(exported.model_proto, path)  # type: ignore[union-attr]


def script_onnx(encoder: torch.jit.ScriptModule, example: np.ndarray) -> onnx.ModelProto:
    """TorchScript, which `trace` cannot read, as a graph such as `write_onnx` makes: by torch's older exporter."""
    file = io.BytesIO()
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            encoder, (torch.from_numpy(example),), file,  # type: ignore[arg-type]  # this exporter writes to files, too
            dynamo=False, opset_version=20,
            input_names=["images"], output_names=["embedding"],
            dynamic_axes={"images": {0: "batch"}, "embedding": {0: "batch"}},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` as one file, without the exporter's notes (stack traces, file names)."""
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save_model(model, str(path))


def run_onnx(path: Path) -> Runner:
    """An ONNX file with one input on the CPU, on as many threads as torch has: its first output.

    Raises:
        RunError: it is damaged.
    """
    session = open_onnx_file(path, torch.get_num_threads())
    if len(taken := session.get_inputs()) != 1:
        raise RunError(f"{path} cannot be run (it takes {len(taken)} inputs); export it again.")
    return lambda pictures: session.run(None, {taken[0].name: pictures})[0]


def run_named(path: Path) -> NamedRunner:
    """The same of a file with any inputs and outputs.

    Raises:
        RunError: it is damaged.
    """
    session = open_onnx_file(path, torch.get_num_threads())
    given = [output.name for output in session.get_outputs()]
    return lambda arrays: dict(zip(given, session.run(None, dict(arrays)), strict=True))


def open_onnx_file(path: Path, threads: int) -> Any:
    """A session of onnxruntime on the CPU, on so many threads.

    Raises:
        RunError: the file is damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its errors reach the user as ours
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # onnxruntime's own kinds
        raise RunError(f"{path} cannot be run ({reason_of(fault)}); export it again.") from None


def run_program(path: Path) -> Runner:
    """A ``.pt2`` archive.

    Raises:
        RunError: it is damaged.
    """
    try:
        with _quiet():
            module = torch.export.load(path).module()
    except Exception as fault:  # torch raises many kinds for damaged files
        raise RunError(f"{path} cannot be run ({reason_of(fault)}); export it again.") from None
    return run_module(module)


def run_module(module: nn.Module) -> Runner:
    """A module, as it is."""

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(pictures)).numpy()

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' chatter away from the user."""
    sink, log = io.StringIO(), logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
