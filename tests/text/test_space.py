"""The text space: its closed forms against fvcore, its supernet against carved encoders, its modules against loops."""

from __future__ import annotations

import random

import pytest
import torch

from cmpnas.cost import Budget
from cmpnas.cost.audit import audit
from cmpnas.errors import BudgetError
from cmpnas.models import Supernet, build_network
from cmpnas.space import SearchSpace, load_space
from cmpnas.text.blocks import Gru, Words
from cmpnas.text.space import TextSpace, TextSpec

SPEC = TextSpec(vocabulary=(40, 80), width=(16, 24), layers=(1, 2), heads=(1, 2), ratio=(1, 2))


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace(TextSpace(SPEC, 9), embedding_dim=20)


def some(space: SearchSpace) -> list:
    fixed = [
        {"mixer": "bag", "pool": "weighted"},
        {"mixer": "bag", "pool": "mean"},
        {"mixer": "gru", "layers": 2, "pool": "weighted"},
    ]
    named = [space.arch({"vocabulary": 80, "width": 24} | choices) for choices in fixed]
    return [*space.extremes(), *named, *(space.sample(random.Random(seed)) for seed in range(4))]


def test_as_many_encoders_as_the_decisions_allow(space):
    layers = sum((2 * 2) ** depth for depth in (1, 2))  # heads x ratio, each layer its own
    assert space.count() == 2 * 2 * 2 * (1 + 2 + layers)
    assert len({space.sample(random.Random(seed)).id for seed in range(400)}) > 100


def test_the_closed_form_is_fvcores_count(space):
    for arch in some(space):
        counted, said = audit(build_network(space, arch), 9, "tokens"), space.cost(arch)
        assert (counted.macs, counted.params) == (said.macs, said.params), arch.id


def test_the_cost_of_a_transformer_layer_is_the_textbook_one():
    length, width, ratio = 24, 96, 4
    spec = TextSpec(vocabulary=512, width=width, mixer="transformer", layers=(1, 2), heads=4, ratio=ratio, pool="mean")
    space = SearchSpace(TextSpace(spec, length))
    one, two = (space.cost(arch).macs for arch in space.extremes())
    assert two - one == 4 * length * width**2 + 2 * length**2 * width + 2 * ratio * length * width**2


def test_a_path_is_the_carved_encoder_and_padding_changes_nothing(space):
    torch.manual_seed(0)
    supernet = Supernet(space)
    ids = torch.randint(1, 40, (3, 9))
    ids[0, 4:], ids[1, 7:] = 0, 0
    for arch in some(space):
        network = supernet.carve(arch).eval()
        by_path = supernet(ids, arch)
        assert torch.equal(by_path, network(ids))
        assert by_path.shape == (3, 20)
        torch.testing.assert_close(network(ids[:1, :4]), by_path[:1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network(ids[[2, 0, 1]]), by_path[[2, 0, 1]], atol=1e-5, rtol=1e-5)


def test_a_bag_does_not_know_order_and_the_others_do(space):
    torch.manual_seed(0)
    ids, mixed = torch.tensor([[5, 6, 7, 8, 0, 0, 0, 0, 0]]), torch.tensor([[8, 6, 5, 7, 0, 0, 0, 0, 0]])
    for arch in some(space):
        network = build_network(space, arch).eval()
        if dict(arch.choices)["mixer"] == "transformer":
            torch.nn.init.normal_(network.positions.table)
        same = torch.allclose(network(ids), network(mixed), atol=1e-5)
        assert same == (dict(arch.choices)["mixer"] == "bag"), arch.id


def test_the_gru_is_torchs(space):
    torch.manual_seed(0)
    layer = next(layer for layer in space.layers(some(space)[4]) if layer.position == "layer1")
    own, theirs = Gru(layer), torch.nn.GRU(24, 24, batch_first=True)
    with torch.no_grad():
        for kind, gates in (("ih", ("reset", "update", "new")), ("hh", ("reset_state", "update_state", "new_state"))):
            parts = [own.get_submodule(gate) for gate in gates]
            getattr(theirs, f"weight_{kind}_l0").copy_(torch.cat([part.weight for part in parts]))
            getattr(theirs, f"bias_{kind}_l0").copy_(torch.cat([part.bias for part in parts]))
    vectors = torch.randn(2, 5, 24)
    expected = vectors + theirs(own.before(vectors))[0]
    torch.testing.assert_close(own(Words(vectors, torch.ones(2, 5, dtype=torch.bool))).vectors, expected)


def test_the_space_is_loaded_by_its_import_path_and_told_of_in_tokens():
    space = load_space("cmpnas.text.space:TextSpace", size=16)
    assert space.cost(space.extremes()[0]).macs == 64 * 128
    with pytest.raises(BudgetError, match=r"at 16 tokens fits 0\.001 MFLOPs"):
        space.require_reachable(Budget(0.001))
