"""Int8 files: smaller and alike; and where one layer ruins them, that layer is found and left in float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from cmpnas.errors import RunError
from cmpnas.export.graph import run_onnx, trace, write_onnx
from cmpnas.export.int8 import Quantiser, quantise_within
from cmpnas.export.pictures import UnitEncoder
from cmpnas.models import build_network, calibrate
from cmpnas.retrieval.compare import Comparison

_PICTURES = np.random.default_rng(0).normal(size=(32, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def sources(small, tmp_path_factory):
    """A small network twice: as it is, and with one channel between two layers a thousand times larger than the others,
    for which the second layer makes up, so that the function is the same and int8, of one scale a tensor, is not."""
    return {unbalanced: source(small, tmp_path_factory.mktemp("source"), unbalanced) for unbalanced in (False, True)}


def source(small, folder, unbalanced):
    torch.manual_seed(0)
    network = build_network(small, small.extremes()[1])
    calibrate(network, [torch.from_numpy(_PICTURES)])
    block = dict(network.named_modules())["a_block1"]
    if unbalanced:
        with torch.no_grad():
            norm, after = block.depthwise[1], block.project[0]
            norm.weight[0] *= 1000
            norm.bias[0] *= 1000
            after.weight[:, 0] /= 1000
    write_onnx(trace(UnitEncoder(network), _PICTURES[:2]), folder / "query.onnx")
    return folder / "query.onnx"


def quantiser(path, scratch):
    return Quantiser(path, lambda: iter(np.split(_PICTURES, 2)), scratch)


def cosine_lost(found: Quantiser):
    """A judge that needs no data: what the vectors lose, one minus the cosine of each with float32's."""
    expected = run_onnx(found.source)(_PICTURES)
    return lambda file: Comparison((run_onnx(file)(_PICTURES) * expected).sum(1).astype(float) - 1)


def test_int8_is_smaller_and_alike(sources, tmp_path):
    found = quantiser(sources[False], tmp_path)
    report = quantise_within(found, tmp_path / "int8.onnx", cosine_lost(found), 2.0, print)
    assert report["kept_float32"] == []
    assert report["against_float32"] == report["everything_int8"]
    model = onnx.load(str(tmp_path / "int8.onnx"))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    depthwise = [node for node in model.graph.node if _groups(node) > 1]
    assert len(depthwise) == sum(_groups(node) > 1 for node in onnx.load(str(found.source)).graph.node) > 0
    for node in depthwise:  # a scale for each channel
        weights, scales, _ = makers[node.input[1]].input
        assert stored[weights].data_type == onnx.TensorProto.INT8
        assert list(stored[scales].dims) == [_groups(node)] == [stored[weights].dims[0]]
    assert not any(part.metadata_props for part in model.graph.node)
    kinds = {node.op_type for node in model.graph.node}
    assert "GlobalAveragePool" in kinds  # which runs in int8
    assert "ReduceMean" not in kinds
    onnx.checker.check_model(model, full_check=True)
    assert (tmp_path / "int8.onnx").stat().st_size < found.source.stat().st_size / 2


def _groups(node):
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def test_the_layers_that_ruin_it_are_found_and_kept(sources, tmp_path):
    found = quantiser(sources[True], tmp_path)
    gain, said = cosine_lost(found), []
    report = quantise_within(found, tmp_path / "int8.onnx", gain, 2.0, said.append)
    assert report["everything_int8"]["points"] < -2.0 <= report["against_float32"]["points"]
    kept = [entry["layer"] for entry in report["kept_float32"]]
    assert 2 <= len(kept) < len(found.layers) / 2
    assert {"a_block1.depthwise.0", "a_block1.project.0"} <= set(kept)
    harm = [entry["sensitivity"] for entry in report["kept_float32"]]
    assert harm == sorted(harm, reverse=True)
    assert "LOSE" in said[0]
    assert all(name in said[1] for name in kept)
    assert 100 * gain(tmp_path / "int8.onnx").difference == report["against_float32"]["points"]


def test_a_tolerance_that_nothing_meets_is_said(sources, tmp_path):
    found = quantiser(sources[False], tmp_path)
    worse = Comparison(np.full(3, -0.5))
    with pytest.raises(RunError, match="no int8 file is within 1 points of float32"):
        quantise_within(found, tmp_path / "int8.onnx", lambda file: worse, 1.0, print)


def test_batchnorm_is_folded_before(small, sources, tmp_path):
    found = quantiser(sources[False], tmp_path)
    network = build_network(small, small.extremes()[1])
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    kinds = [node.op_type for node in onnx.load(str(found.source)).graph.node]
    assert kinds.count("Conv") == convolutions
    assert "BatchNormalization" not in kinds
    assert sum(name.endswith("depthwise.0") for name in found.layers.values()) > 0
