"""A chain of the layers' graphs computes what the network computes, and onnxruntime can be timed on it."""

from __future__ import annotations

import random

import numpy as np
import onnxruntime
import pytest
import torch

from cmpnas.errors import LatencyError
from cmpnas.measure import OnnxRuntime
from cmpnas.measure.graphs import Normalise, chain, filled, is_idle, layer_graph, module_graph
from cmpnas.models.blocks import build_layer
from cmpnas.space import load_space


@pytest.mark.parametrize("name", ["shufflenet", "mobile", "resnet_small"])
def test_a_chain_of_layers_is_the_network(name):
    space = load_space(name, size=32)
    layers = space.layers(space.sample(random.Random(1)))
    torch.manual_seed(0)
    modules = [*(build_layer(layer).eval() for layer in layers), Normalise()]
    x, parts = torch.randn(2, 3, 32, 32), []
    expected = x
    with torch.no_grad():
        for module in modules:
            parts.append(module_graph(module, tuple(expected.shape)))
            expected = module(expected)
    session = onnxruntime.InferenceSession(chain(parts).SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)


def test_a_hollow_graph_is_small_and_runs_when_filled():
    layer = next(layer for layer, _ in load_space("tiny").operators.values() if layer.kind == "mbconv")
    shape, empty = (1, layer.cin, layer.size, layer.size), layer_graph(layer, 1)
    assert empty.ByteSize() < 0.6 * module_graph(build_layer(layer), shape).ByteSize()
    session = onnxruntime.InferenceSession(filled(empty).SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"x": np.ones(shape, np.float32)})
    assert output.shape == (1, layer.cout, layer.out_size, layer.out_size)
    assert 0 < output.max() < 10


def test_resizing_to_the_same_side_is_no_work():
    layers = [layer for layer, _ in load_space("mobile", size=64).operators.values() if layer.kind == "resize"]
    idle = [layer for layer in layers if is_idle(layer_graph(layer, 1))]
    assert [layer.integer("to") for layer in idle] == [64]
    assert OnnxRuntime().operator(idle[0])() == 0


def test_time_is_measured():
    space, device = load_space("tiny"), OnnxRuntime(threads=1, batch=2)
    small, large = space.extremes()
    for arch in (small, large):
        layers = space.layers(arch)
        assert all(device.operator(layer)() > 0 for layer in layers)
        assert device.network(layers)() > 0
    assert device.provenance()["threads"] == 1
    assert device.provenance()["clock"] == "processor time of the thread"


@pytest.mark.parametrize("settings", [{"threads": 0}, {"batch": -1}])
def test_bad_conditions(settings):
    with pytest.raises(LatencyError, match="give at least 1"):
        OnnxRuntime(**settings)
