"""A path of the supernet is the static network; nothing remembers which ran last."""

from __future__ import annotations

import random

import pytest
import torch

from cmpnas.models import Supernet, calibrate
from cmpnas.models.network import module_name
from cmpnas.space import load_space


@pytest.fixture(params=["mobile_small", "resnet_small"])
def supernet(request) -> Supernet:
    torch.manual_seed(0)
    return Supernet(load_space(request.param, size=32, embedding_dim=16))


def test_path_equals_carved_network_forward_and_backward(supernet):
    images = torch.randn(4, 3, 32, 32)
    for seed in range(5):
        arch = supernet.space.sample(random.Random(seed))
        network = supernet.carve(arch).train()
        supernet.zero_grad()
        by_path, by_network = supernet(images, arch), network(images)
        assert torch.allclose(by_path, by_network, atol=1e-5)
        by_path.square().sum().backward()
        by_network.square().sum().backward()
        for layer in supernet.space.layers(arch):
            block = network.get_submodule(module_name(layer.position))
            grads = _slice_grads(supernet, layer)
            for name, value in block.named_parameters():
                assert torch.allclose(grads[name], value.grad, atol=1e-3, rtol=1e-3), (layer, name)


def _slice_grads(supernet, layer):
    """Gradients of the shared weights at the slice that ``layer`` uses, cut by hand."""
    store = supernet._store(f"{module_name(layer.position)}:{layer.kind}")
    grads = {}
    for name, value in supernet.slices(layer).items():
        grad = store[name].grad
        for dim, want in enumerate(value.shape):
            have = grad.shape[dim]
            first = (have - want) // 2 if dim >= 2 else 0
            grad = grad.narrow(dim, first, want)
        grads[name] = grad
    return grads


def test_other_paths_leave_no_trace(supernet):
    images = torch.randn(4, 3, 32, 32)
    low, high = supernet.space.extremes()
    before = supernet(images, low)
    supernet(images, high)
    calibrate(supernet.carve(high), [images])
    assert torch.equal(supernet(images, low), before)


def test_carved_network_shares_no_memory(supernet):
    arch = supernet.space.extremes()[1]
    network = supernet.carve(arch)
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1)
    assert all(torch.equal(value, state[name]) for name, value in supernet.state_dict().items())
    assert "upernet" not in repr(network)


def test_calibration_is_the_cumulative_mean(supernet):
    torch.manual_seed(1)
    batches = [torch.randn(8, 3, 32, 32) + shift for shift in (0.0, 1.0, -2.0)]
    network = calibrate(supernet.carve(supernet.space.extremes()[0]), batches)
    norm = network.stem[1]
    seen = [network.stem[0](batch) for batch in batches]
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variance = torch.stack([x.var((0, 2, 3), correction=1) for x in seen]).mean(0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(norm.running_var, variance, atol=1e-4)
    assert not network.training
    assert norm.momentum == 0.1


def test_calibration_changes_what_a_carved_network_says(supernet):
    images = torch.randn(16, 3, 32, 32)
    network = supernet.carve(supernet.space.extremes()[1]).eval()
    stale = network(images)
    fresh = calibrate(network, [images])(images)
    assert (stale - fresh).abs().max() > 0.1


def test_embedding_width_follows_the_argument():
    supernet = Supernet(load_space("mobile_small", size=32), embedding_dim=24)
    low, _ = supernet.space.extremes()
    assert supernet.carve(low).eval()(torch.randn(2, 3, 32, 32)).shape == (2, 24)
