"""Networks evaluated together give what each gives alone, to the last bit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from cmpnas.models import Supernet, Together, calibrate
from cmpnas.models.together import by_beginning
from cmpnas.space import load_space


def drawn(name: str, count: int) -> tuple[Supernet, list]:
    torch.manual_seed(0)
    supernet = Supernet(load_space(name, size=32, embedding_dim=16))
    found = supernet.space.sample_many(count, 0)
    return supernet, [found[i] for i in range(count)]


def embedded(network: nn.Module, calibration: list, images: torch.Tensor) -> torch.Tensor:
    calibrate(network, calibration)
    with torch.inference_mode():
        return network(images)


@pytest.mark.parametrize("name", ["tiny", "shufflenet", "resnet_small"])
def test_each_output_is_that_of_the_carved_network(name):
    supernet, archs = drawn(name, 8)
    calibration, images = list(torch.randn(2, 16, 3, 32, 32)), torch.randn(5, 3, 32, 32)
    together = embedded(Together(supernet, archs), calibration, images)
    for arch, found in zip(archs, together, strict=True):
        assert torch.equal(found, embedded(supernet.carve(arch), calibration, images))


def test_a_layer_is_held_and_run_once_for_all_that_begin_with_it():
    supernet, archs = drawn("tiny", 20)
    paths = [supernet.space.layers(arch) for arch in archs]
    beginnings = {path[: i + 1] for path in map(tuple, paths) for i in range(len(path))}
    together = Together(supernet, archs)
    assert len(together.blocks) == len(beginnings) < sum(map(len, paths))
    held = {parameter.data_ptr(): parameter.numel() for parameter in together.parameters()}
    layers = {layer for path in paths for layer in path}
    assert sum(held.values()) == sum(value.numel() for layer in layers for value in supernet.slices(layer).values())


def test_layers_that_write_over_their_input_do_not_disturb_the_others():
    supernet, archs = drawn("tiny", 6)
    calibration, images = [torch.randn(16, 3, 32, 32)], torch.randn(5, 3, 32, 32)

    def rewrite(blocks: nn.Module) -> None:
        for name, block in list(blocks.named_children())[1:]:
            setattr(blocks, name, nn.Sequential(nn.LeakyReLU(0.1, inplace=True), block))

    together = Together(supernet, archs)
    rewrite(together.blocks)
    found = embedded(together, calibration, images)
    for arch, output in zip(archs, found, strict=True):
        alone = supernet.carve(arch)
        rewrite(alone)
        assert torch.equal(output, embedded(alone, calibration, images))


def test_those_of_a_common_beginning_are_neighbours():
    supernet, archs = drawn("tiny", 40)
    ordered = [supernet.space.layers(archs[i]) for i in by_beginning(supernet, archs)]
    for length in (2, 3, 4):
        groups = [path[:length] for path in ordered]
        changes = sum(a != b for a, b in pairwise(groups))
        assert changes == len(set(groups)) - 1


def test_a_carved_network_and_the_supernet_keep_their_own_weights():
    supernet, archs = drawn("tiny", 1)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    for network in (supernet.carve(archs[0]), Together(supernet, archs)):
        with torch.no_grad():
            for value in network.parameters():
                value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    assert any(value.any() for value in supernet.carve(archs[0]).parameters())
