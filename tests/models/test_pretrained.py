"""A supernet that starts from a finished network is that network, whatever the order of its channels."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from cmpnas.errors import DataError
from cmpnas.models import Supernet, build_network, calibrate
from cmpnas.models.folded import folded_convolutions
from cmpnas.models.pretrained import require_fit, start_from
from cmpnas.space import SearchSpace, load_space
from cmpnas.space.grow import Declared
from cmpnas.space.spec import check_spec
from tests.conftest import small_spec, to_onnx

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def space():
    return SearchSpace(Declared(check_spec(small_spec(), "small")))


@pytest.fixture(scope="module")
def images():
    return torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def finished(space, images):
    """A network of the largest architecture with statistics, scales and shifts that are not those of a fresh one."""
    torch.manual_seed(1)
    network = build_network(space, space.extremes()[1])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return calibrate(network, [images])


@pytest.fixture(scope="module")
def file(finished, tmp_path_factory):
    return to_onnx(finished, 32, tmp_path_factory.mktemp("models") / "net.onnx")


@torch.no_grad()
def features(network, images):
    """What is pooled before the embedding: ``(N, C)``."""
    for name, block in network.named_children():
        if name != "embed":
            images = block(images)
    return images.mean((2, 3))


def assert_equal_but_for_order(found, expected):
    """Equal columns in another order: each is recognised by all that it says."""
    near = torch.cdist(found.T, expected.T, compute_mode="donot_use_mm_for_euclid_dist")
    assert near.min(1).values.max() < 1e-3
    assert sorted(near.argmin(1).tolist()) == list(range(expected.shape[1]))


def test_the_dearest_path_computes_what_the_finished_network_does(space, images, finished, file):
    supernet = Supernet(space)
    network = start_from(supernet, folded_convolutions(file, HALF, HALF), images)
    assert_equal_but_for_order(features(network, images), features(finished, images))
    by_path = supernet(images, space.extremes()[1])  # what the supernet itself holds, with the same statistics
    assert torch.allclose(by_path, network(images), atol=1e-4)
    assert torch.allclose(network(images[:5]), network(images)[:5], atol=1e-5), "statistics are set once"


def test_the_most_important_channels_lead(space, images, file):
    supernet = Supernet(space)
    network = start_from(supernet, folded_convolutions(file, HALF, HALF), images)
    block = network.b_block1
    assert not block.skips
    says = block.depthwise[1].weight * block.project[0].weight.flatten(1).norm(dim=0)
    assert (says.diff() <= 1e-6).all()
    written = block.project[1].weight.square() + network.b_block2.project[1].weight.square()
    assert (written.diff() <= 1e-6).all()


def test_hooks_of_one_carved_network_are_no_others(space, images):
    supernet, arch = Supernet(space), space.extremes()[1]
    one, other = supernet.carve(arch), supernet.carve(arch)
    seen = []
    for block in one.modules():
        block.register_forward_hook(lambda *_: seen.append(1))
    other.eval()(images[:2])
    assert not seen


@pytest.fixture(scope="module")
def with_norms(tmp_path_factory):
    """A convolution without bias and its BatchNorm, unfolded, as a graph."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    scale, shift, mean, variance = (rng.uniform(0.5, 2, 4).astype(np.float32) for _ in range(4))
    stored = {"k": kernel, "s": scale, "b": shift, "m": mean, "v": variance}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], epsilon=1e-3),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, "h", "h"]) for name, c in (("x", 3), ("y", 4))
    ]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(v, n) for n, v in stored.items()]
    )
    path = tmp_path_factory.mktemp("norms") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("mean", "std"), [(HALF, HALF), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
def test_norms_and_the_scale_of_pictures_are_folded_in(with_norms, images, mean, std):
    [(kernel, bias)] = folded_convolutions(with_norms, mean, std)
    shown = ((images / 2 + 0.5) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    session = onnxruntime.InferenceSession(with_norms)
    [expected] = session.run(None, {"x": shown.numpy()})
    assert F.conv2d(images, kernel, bias).numpy() == pytest.approx(expected, abs=1e-4)


def test_weights_of_another_network_are_refused(space, file):
    weights = folded_convolutions(file, HALF, HALF)
    with pytest.raises(DataError, match=r"convolution \d+ is missing in the largest .* and \(8, 3, 3, 3\) in the file"):
        require_fit(space, [*weights, weights[0]])
    with pytest.raises(DataError, match=r"convolution 1 is \(8, 3, 3, 3\) in the largest network of space 'small'"):
        require_fit(space, weights[1:])
    with pytest.raises(DataError, match="only spaces of mbconv blocks"):
        require_fit(load_space("resnet_small"), weights)


@pytest.mark.parametrize(
    ("change", "words"), [({"se": 0.25}, "squeeze-excite"), ({"separate": "kernel"}, "separate: kernel")]
)
def test_what_would_stay_random_is_refused(file, change, words):
    spec = small_spec()
    spec["stages"][0] |= change
    space = SearchSpace(Declared(check_spec(spec, "small")))
    with pytest.raises(DataError, match=f"a.block1 of space 'small' has {words}"):
        require_fit(space, folded_convolutions(file, HALF, HALF))


def test_weights_beside_the_file_that_are_gone_are_named(file, tmp_path):
    onnx.save(onnx.load(file), tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert len(folded_convolutions(tmp_path / "net.onnx", HALF, HALF)) == len(folded_convolutions(file, HALF, HALF))
    (tmp_path / "w.bin").unlink()
    with pytest.raises(DataError, match="export the model to one file"):
        folded_convolutions(tmp_path / "net.onnx", HALF, HALF)


@pytest.mark.parametrize("name", ["k", "v"])
def test_weights_that_are_no_floats_are_refused(name, with_norms, tmp_path):
    model = onnx.load(with_norms)
    [stored] = [tensor for tensor in model.graph.initializer if tensor.name == name]
    stored.CopyFrom(numpy_helper.from_array(np.zeros(tuple(stored.dims), np.int8), name))
    onnx.save(model, tmp_path / "int8.onnx")
    with pytest.raises(DataError, match=f"'{name}' of a convolution is not stored as floats"):
        folded_convolutions(tmp_path / "int8.onnx", HALF, HALF)


def test_a_published_mobilenet_is_the_largest_of_its_space(data_root):
    """TensorFlow pads at the right and below where torch pads at the left and above: turned by half a turn, kernels and
    pictures, both see the same."""
    path = data_root / "pretrained" / "mobilenet_v2_imagenet_a.onnx"
    if not path.is_file():
        pytest.skip(f"{os.fspath(path)} is not there")
    weights = folded_convolutions(path, HALF, HALF)
    pictures = F.interpolate(torch.rand(8, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1, (224, 224))
    supernet = Supernet(load_space("mobilenet_v2", size=224))
    turned = pictures.flip(2, 3)
    network = start_from(supernet, [(kernel.flip(2, 3), bias) for kernel, bias in weights], turned)
    session = onnxruntime.InferenceSession(path)
    [expected] = session.run(None, {"x": pictures.numpy()})
    found = features(network, turned)
    order = torch.cdist(found.T, torch.tensor(expected).T).argmin(1)
    assert np.corrcoef(found.numpy().ravel(), expected[:, order].ravel())[0, 1] > 0.9999
