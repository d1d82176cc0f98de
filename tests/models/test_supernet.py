"""A path of the supernet is the static network; nothing remembers which ran last."""

from __future__ import annotations

import os
import random

import pytest
import torch
from torch import Tensor, nn

from cmpnas.models import Supernet, build_network, calibrate
from cmpnas.models.network import module_name
from cmpnas.space import load_space

ARCHS = int(os.environ.get("CMPNAS_TEST_ARCHS", 3))  # of each space
SPACES = ("tiny", "mobile_small", "mobile", "mobilenet_v2", "shufflenet", "resnet_small", "resnet_basic", "resnet")


@pytest.fixture(params=SPACES)
def anyone(request) -> Supernet:
    torch.manual_seed(0)
    return Supernet(load_space(request.param, size=64, embedding_dim=16))


@pytest.fixture(params=["mobile_small", "resnet_small"])
def supernet(request) -> Supernet:
    torch.manual_seed(0)
    return Supernet(load_space(request.param, size=32, embedding_dim=16))


def test_path_equals_carved_network_in_train_and_eval_mode(anyone):
    images = torch.randn(6, 3, 64, 64)
    archs = anyone.space.sample_many(ARCHS, 0, over="cost")
    with torch.no_grad():
        for i in range(len(archs)):
            by_path = anyone.eval()(images, archs[i])
            assert torch.equal(by_path, anyone.train()(images, archs[i]))
            assert torch.allclose(by_path, anyone.carve(archs[i]).train()(images), atol=1e-5)
    anyone.double()  # so that 60 norms of a few values each do not drown the difference in rounding
    with torch.no_grad():
        for i in range(len(archs)):
            network = anyone.carve(archs[i]).double()
            with_statistics_of(network, images.double())
            by_path = anyone(images.double(), archs[i])
            assert torch.allclose(by_path, network(images.double()), atol=1e-5), archs[i].id


def with_statistics_of(network: nn.Module, images: Tensor) -> None:
    """Give each norm the mean and the biased variance of what reaches it: what batch statistics are."""
    rows: dict[nn.Module, int] = {}
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [m.register_forward_hook(lambda m, x, y: rows.update({m: x[0].numel() // x[0].shape[1]})) for m in norms]
    calibrate(network, [images])
    for norm, hook in zip(norms, hooks, strict=True):
        hook.remove()
        norm.running_var.mul_((rows[norm] - 1) / rows[norm])


def test_gradients_of_the_shared_weights_are_those_of_the_static_network(anyone):
    images = torch.randn(6, 3, 64, 64, dtype=torch.double)  # norms of six values leave single precision little
    archs = anyone.double().space.sample_many(ARCHS, 1)
    for i in range(len(archs)):
        network = anyone.carve(archs[i]).train()
        anyone.zero_grad()
        anyone(images, archs[i]).square().sum().backward()
        network(images).square().sum().backward()
        for layer in anyone.space.layers(archs[i]):
            block = network.get_submodule(module_name(layer.position))
            cut = slice_gradients(anyone, layer)
            for name, value in block.named_parameters():
                scale = value.grad.abs().max() + 1e-3
                assert torch.allclose(cut[name] / scale, value.grad / scale, atol=1e-3), (layer, name)


def slice_gradients(supernet: Supernet, layer) -> dict[str, Tensor]:
    """Gradients of the shared weights at the slice that ``layer`` uses, cut by hand."""
    tensors = supernet.shared[layer.shared_by.replace(".", "_")].tensors
    cut = {}
    for name, value in supernet.slices(layer).items():
        grad = tensors[name].grad
        for dim, want in enumerate(value.shape):
            have = grad.shape[dim]
            first = (have - want) // 2 if dim >= 2 else 0
            grad = grad.narrow(dim, first, want)
        cut[name] = grad
    return cut


def test_separate_values_share_nothing_and_entangled_ones_share():
    supernet = Supernet(load_space("shufflenet", size=32, embedding_dim=16))
    low, high = supernet.space.extremes()
    images = torch.randn(2, 3, 32, 32)
    supernet(images, high).sum().backward()
    touched = {name for name, p in supernet.named_parameters() if p.grad is not None}
    assert any("operator=xception" in name for name in touched)
    assert not any("operator=shuffle5" in name for name in touched)
    wide, narrow = (next(x for x in supernet.space.layers(a) if x.position == "stage1.block1") for a in (high, low))
    assert wide.shared_by != narrow.shared_by  # another operator
    thin = supernet.space.arch(dict(high.choices) | {"stage1.block1.expansion": 0.2})
    thin = next(x for x in supernet.space.layers(thin) if x.position == "stage1.block1")
    first, second = supernet.slices(wide), supernet.slices(thin)
    assert first["main.0.weight"].data_ptr() == second["main.0.weight"].data_ptr()


def test_other_paths_leave_no_trace(supernet):
    images = torch.randn(4, 3, 32, 32)
    low, high = supernet.space.extremes()
    before = supernet(images, low)
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    supernet(images, high)
    calibrate(supernet.carve(high), [images])
    assert torch.equal(supernet(images, low), before)
    assert all(torch.equal(value, state[name]) for name, value in supernet.state_dict().items())


def test_carved_network_shares_no_memory(supernet):
    arch = supernet.space.extremes()[1]
    network = supernet.carve(arch)
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    with torch.no_grad():
        for value in network.parameters():
            value.add_(1)
    assert all(torch.equal(value, state[name]) for name, value in supernet.state_dict().items())
    assert "upernet" not in repr(network)


def test_calibration_is_of_all_batches(supernet):
    torch.manual_seed(1)
    batches = [torch.randn(8, 3, 32, 32) + shift for shift in (0.0, 1.0, -2.0)]
    network = calibrate(supernet.carve(supernet.space.extremes()[0]), batches)
    norm = network.stem[1]
    seen = [network.stem[0](batch) for batch in batches]
    means = torch.stack([x.mean((0, 2, 3)) for x in seen])
    mean = means.mean(0)
    variance = torch.stack([x.var((0, 2, 3), correction=1) for x in seen]).mean(0) + means.var(0, correction=0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(norm.running_var, variance, atol=1e-4)
    assert not network.training
    assert norm.momentum == 0.1


@torch.no_grad()
def test_stale_statistics_change_the_score_and_calibrated_ones_are_the_populations():
    """Scores of a path after calibration are those of a forward written out with exact statistics."""
    from cmpnas.retrieval import evaluate_retrieval

    torch.manual_seed(0)
    supernet = Supernet(load_space("mobile_small", size=32, embedding_dim=16)).double()
    arch = supernet.space.sample(random.Random(1))
    pictures = torch.randn(40, 3, 32, 32)
    labels = torch.arange(40).repeat(8)
    channels = torch.tensor([3.0, 1.0, 0.3]).view(3, 1, 1)
    images = ((pictures[labels] + 0.5 * torch.randn(320, 3, 32, 32)) * channels + 1).double()

    def scores(embeddings: Tensor) -> float:
        found = embeddings.numpy()
        return evaluate_retrieval(found[:40], found[40:], labels[:40].numpy(), labels[40:].numpy(), ["map@r"])["map@r"]

    stale = supernet.carve(arch).double().eval()(images)
    network = calibrate(supernet.carve(arch).double(), [images])
    exact = by_hand(supernet.carve(arch).double(), images)
    assert scores(network(images)) == pytest.approx(scores(exact), abs=1e-4)
    assert torch.allclose(network(images), exact, atol=0.01)
    assert abs(scores(stale) - scores(exact)) > 0.01


@torch.no_grad()
def test_statistics_of_several_batches_are_those_of_all_pictures():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).double()
    images = torch.randn(60, 3, 4, 4).double() + 3 * torch.arange(60).view(60, 1, 1, 1) / 60  # batches of unlike means
    calibrate(nn.Sequential(norm), images.split(12))
    assert torch.allclose(norm.running_mean, images.mean((0, 2, 3)))
    within = torch.stack([part.var((0, 2, 3)) for part in images.split(12)]).mean(0)
    between = torch.stack([part.mean((0, 2, 3)) for part in images.split(12)]).var(0, correction=0)
    assert torch.allclose(norm.running_var, within + between)
    assert torch.allclose(norm.running_var, images.var((0, 2, 3)), rtol=5e-3)  # but for the correction of each part
    assert between.min() > 0.1 * within.max()


def by_hand(network: nn.Module, images: Tensor) -> Tensor:
    """Every BatchNorm written out, with mean and unbiased variance over all of ``images``."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x, m=module: (
                (x - x.mean((0, 2, 3), keepdim=True))
                / torch.sqrt(x.var((0, 2, 3), keepdim=True, correction=1) + m.eps)
                * m.weight[:, None, None]
                + m.bias[:, None, None]
            )
    return network(images)


def test_embedding_width_follows_the_argument():
    supernet = Supernet(load_space("mobile_small", size=32), embedding_dim=24)
    low, _ = supernet.space.extremes()
    assert supernet.carve(low).eval()(torch.randn(2, 3, 32, 32)).shape == (2, 24)


def test_bf16_autocast_reaches_every_shared_weight_of_the_path(supernet):
    arch = supernet.space.extremes()[0]
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = supernet(torch.randn(4, 3, 32, 32), arch)
    embeddings.float().square().sum().backward()
    grads = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    used = {layer.shared_by.replace(".", "_") for layer in supernet.space.layers(arch)}
    assert {name.split(".")[1] for name in grads} == used
    assert all(torch.isfinite(grad).all() and grad.dtype == torch.float32 for grad in grads.values())


def test_networks_are_in_channels_last_memory_and_compile(supernet):
    network = build_network(supernet.space, supernet.space.extremes()[0]).eval()
    weight = network.stem[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(images), network(images), atol=1e-5)
