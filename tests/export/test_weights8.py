"""Weights in int8: each is its integer times its channel's scale, and a runtime makes them once."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from cmpnas.export.graph import run_onnx, trace, write_onnx
from cmpnas.export.weights8 import write_weights8, write_weights8_within
from cmpnas.retrieval.compare import Comparison


class Encoder(nn.Module):
    """A dense and a depthwise convolution and two linear layers, one of which has its outputs last."""

    def __init__(self):
        super().__init__()
        self.dense, self.depthwise = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 5, groups=8)
        self.linear, self.matrix = nn.Linear(8, 6), nn.Parameter(torch.randn(6, 16))

    def forward(self, images):
        maps = self.depthwise(self.dense(images).relu()).relu()
        return nn.functional.normalize(self.linear(maps.mean((2, 3))).relu() @ self.matrix)


def whole(values, axis):
    """What a weight becomes, channel by channel."""
    found = np.zeros_like(values)
    for channel in range(values.shape[axis]):
        at = tuple(channel if other == axis else slice(None) for other in range(values.ndim))
        scale = np.abs(values[at]).max() / np.float32(127)
        found[at] = 0 if scale == 0 else np.round(values[at] / scale) * scale
    return found


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    network = Encoder().eval()
    with torch.no_grad():
        network.dense.weight[2] = 0  # a channel that nothing scales
        network.depthwise.weight[1] *= 1000
    write_onnx(trace(network, np.zeros((2, 3, 24, 24), np.float32)), tmp_path / "query.onnx")
    write_weights8(tmp_path / "query.onnx", tmp_path / "query.w8.onnx")
    return network, tmp_path


def test_it_computes_what_rounded_weights_compute(encoder):
    network, folder = encoder
    with torch.no_grad():
        for weight, axis in ((network.dense.weight, 0), (network.depthwise.weight, 0), (network.linear.weight, 0),
                             (network.matrix, 1)):  # fmt: skip
            weight.copy_(torch.from_numpy(whole(weight.numpy(), axis)))
    pictures = torch.randn(5, 3, 24, 24)
    found = run_onnx(folder / "query.w8.onnx")(pictures.numpy())
    with torch.no_grad():
        assert np.abs(found - network(pictures).numpy()).max() < 1e-5


def test_its_weights_are_integers_and_the_graph_that_runs_is_that_of_float32(encoder):
    _, folder = encoder
    stored = onnx.load(str(folder / "query.w8.onnx")).graph.initializer
    matrices = [numpy_helper.to_array(tensor) for tensor in stored if np.prod(tensor.dims) > 16]
    assert sorted(values.size for values in matrices) == [48, 96, 200, 216]
    assert {values.dtype for values in matrices} == {np.dtype(np.int8)}
    kinds = []
    for name in ("query.onnx", "query.w8.onnx"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(folder / f"run.{name}")
        onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
        kinds.append([node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node])
    assert kinds[0] == kinds[1]


def test_a_file_that_loses_too_much_is_not_left(encoder):
    _, folder = encoder
    said: list[str] = []
    worse = Comparison(np.full(9, -0.03))
    assert (
        write_weights8_within(folder / "query.onnx", folder / "out.onnx", lambda file: worse, 1.0, said.append) is None
    )
    assert said == ["weights in int8 LOSE 3.00 POINTS, more than 1; no out.onnx"]
    assert not (folder / "out.onnx").exists()
    report = write_weights8_within(folder / "query.onnx", folder / "out.onnx", lambda file: worse, 3.5, said.append)
    assert report["against_float32"]["points"] == pytest.approx(-3)
    assert (folder / "out.onnx").read_bytes() == (folder / "query.w8.onnx").read_bytes()
