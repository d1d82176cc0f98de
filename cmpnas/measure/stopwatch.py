"""This device, as onnxruntime uses it: how long one operator or one network takes."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from onnx import ModelProto

from cmpnas.errors import LatencyError
from cmpnas.measure.graphs import chain, filled, is_idle, layer_graph, normalise_graph
from cmpnas.space import Layer

#: Runs once and gives the milliseconds that it took.
Timer = Callable[[], float]


class Device(Protocol):
    """Something that takes time for operators and for networks."""

    def operator(self, layer: Layer) -> Timer:
        """Get ``layer`` ready to run alone."""
        ...

    def network(self, layers: Sequence[Layer]) -> Timer:
        """Get a whole query encoder ready to run."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What its times depend on; no date, so that equal ones are equal."""
        ...


class OnnxRuntime:
    """The processor of this machine, in float32.

    One thread is timed by its own processor time, which other programs on the core do not enter; several by the
    clock on the wall.

    Raises:
        LatencyError: ``threads`` or ``batch`` is not positive.
    """

    def __init__(self, threads: int = 1, batch: int = 1) -> None:
        for name, value in (("threads", threads), ("batch", batch)):
            if value < 1:
                raise LatencyError(f"--{name} is {value}; give at least 1.")
        self.threads, self.batch = threads, batch
        self._graphs: dict[str, ModelProto] = {}

    def operator(self, layer: Layer) -> Timer:
        graph = self._graph(layer)
        return _idle if is_idle(graph) else session_timer(filled(graph).SerializeToString(), self.threads)

    def network(self, layers: Sequence[Layer]) -> Timer:
        parts = [*map(self._graph, layers), normalise_graph(self.batch, layers[-1].cout)]
        return session_timer(filled(chain(parts)).SerializeToString(), self.threads)

    def _graph(self, layer: Layer) -> ModelProto:
        if layer.operator not in self._graphs:
            self._graphs[layer.operator] = layer_graph(layer, self.batch)
        return self._graphs[layer.operator]

    def provenance(self) -> dict[str, Any]:
        return {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
            "runtime": f"onnxruntime {metadata.version('onnxruntime')} CPUExecutionProvider",
            "torch": metadata.version("torch"),
            "dtype": "float32",
            "threads": self.threads,
            "batch": self.batch,
            "clock": "processor time of the thread" if self.threads == 1 else "wall clock",
        }


def session_timer(model: bytes, threads: int) -> Timer:
    """A timer of an ONNX model whose input has a fixed shape, on random input."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in taken.shape]  # a side left open is the batch
    kind = np.uint8 if taken.type == "tensor(uint8)" else np.float32
    feed = {taken.name: np.random.default_rng(0).integers(0, 256, shape).astype(kind)}
    clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns

    session.run(None, feed)  # the first run plans memory, once

    def timer() -> float:
        start = clock()
        session.run(None, feed)
        return (clock() - start) / 1e6

    return timer


def _idle() -> float:
    return 0.0


def _processor() -> str:
    """The processor's own name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
