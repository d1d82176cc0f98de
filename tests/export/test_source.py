"""The source that is written is the network that was: for every space, and for blocks of the user's own."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.errors import RunError
from cmpnas.export.pictures import UnitEncoder
from cmpnas.export.source import NotPlainError, load_source, write_source
from cmpnas.models import build_network
from cmpnas.space import list_spaces, load_space


def written(encoder, path):
    write_source(encoder, path / "model.py", title="A title", size=64, dim=16)
    return load_source(path / "model.py")


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_comes_out_bit_for_bit(name, tmp_path):
    space = load_space(name, size=64, embedding_dim=16)
    images = torch.randn(2, 3, 64, 64)
    for seed, arch in enumerate([*space.extremes()[:1], space.sample(random.Random(1))]):
        torch.manual_seed(seed)
        encoder = UnitEncoder(build_network(space, arch)).eval()
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean)
        assert torch.equal(written(encoder, tmp_path)(images), encoder(images))
    text = (tmp_path / "model.py").read_text()
    assert "cmpnas" not in text
    assert "supernet" not in text.lower()


def activation(x: Tensor) -> Tensor:
    return x


class Own(nn.Module):
    """A block of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.ReLU6()  # of the same name as a function above
        self.scale = nn.Parameter(torch.rand(3, 1, 1))
        self.power = 2
        self.mix = nn.Sequential(nn.Conv2d(3, 4, (3, 5), padding=(1, 2), dilation=1), nn.BatchNorm2d(4, eps=1e-3))

    def helped(self, x: Tensor) -> Tensor:
        return F.pad(x * self.scale, (1, 1)) ** self.power

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.mix(self.helped(x))).mean((2, 3))


class Named(Own):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(activation(x))


class Buffered(Own):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(2))


def test_a_block_of_the_users_own(tmp_path):
    encoder, images = UnitEncoder(Own()).eval(), torch.rand(2, 3, 8, 8)
    assert torch.equal(written(encoder, tmp_path)(images), encoder(images))


@pytest.mark.parametrize(
    ("module", "message"),
    [(Named(), "Named uses 'activation'"), (Buffered(), "buffers of its own"), (nn.MultiheadAttention(4, 1), "Multi")],
)
def test_what_cannot_be_plain_is_said(module, message, tmp_path):
    with pytest.raises(NotPlainError, match=message):
        written(UnitEncoder(module), tmp_path)


def test_a_source_that_does_not_run_is_named(tmp_path):
    (tmp_path / "model.py").write_text("nonsense(")
    with pytest.raises(RunError, match=r"model.py cannot be run \(SyntaxError"):
        load_source(tmp_path / "model.py")
