"""The closed form against fvcore and published counts."""

from __future__ import annotations

import random

import pytest

from cmpnas.cost.audit import audit
from cmpnas.models import build_network
from cmpnas.space import SearchSpace, load_space
from cmpnas.space.spec import check_spec


@pytest.mark.parametrize(
    ("name", "size"), [("mobile_small", 64), ("mobile_small", 28), ("resnet_small", 48), ("mobile", 96)]
)
def test_closed_form_equals_fvcore_to_the_last_multiply_add(name, size):
    space = load_space(name, size=size)
    for seed in range(6):
        arch = space.sample(random.Random(seed))
        assert audit(build_network(space, arch), size) == space.cost(arch)


def mobilenet_v2() -> SearchSpace:
    """MobileNetV2 1.0x as a space of one (its table 2), with 1000 outputs for the embedding."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    stages = [
        {"name": f"s{i}", "block": "mbconv", "width": [c], "depth": [n], "stride": s, "kernel": [3], "expansion": [t]}
        for i, (t, c, n, s) in enumerate(rows)
    ]
    spec = {"name": "mobilenet_v2", "size": 224, "embedding_dim": 1000, "stem": {"width": 32, "stride": 2},
            "stages": stages, "last": {"width": 1280, "kernel": 1}}  # fmt: skip
    return SearchSpace(check_spec(spec, "mobilenet_v2"))


def test_mobilenet_v2_costs_what_was_published():
    space = mobilenet_v2()
    cost = space.cost(space.extremes()[0])
    assert cost.macs == 300_774_272  # the paper says 300 M; torch's and fvcore's own counts agree on this
    assert cost.params == 3_504_872


def test_mflops_times_a_million_is_whole(small):
    cost = small.cost(small.extremes()[1])
    assert cost.mflops * 1e6 == cost.macs
