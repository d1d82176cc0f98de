"""The closed form against fvcore, published counts, and the memory of a network that really runs."""

from __future__ import annotations

import os

import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.fx.passes.shape_prop import ShapeProp

from cmpnas.cost import Cost
from cmpnas.cost.audit import audit
from cmpnas.models import build_network
from cmpnas.space import SearchSpace, load_space
from cmpnas.space.grow import Declared
from cmpnas.space.spec import check_spec

ARCHS = int(os.environ.get("CMPNAS_TEST_ARCHS", 3))  # of each space

#: Every space of the package, at a size where the count and the tracing are quick.
SPACES = [
    ("tiny", 32), ("mobile_small", 28), ("mobile", 64), ("shufflenet", 64), ("resnet_small", 32),
    ("resnet_basic", 64), ("resnet", 64),
]  # fmt: skip


def counted(network: nn.Module, size: int) -> tuple[int, int]:
    cost = audit(network, size)
    return cost.macs, cost.params


@pytest.mark.parametrize(("name", "size"), SPACES)
def test_closed_form_equals_fvcore_to_the_last_multiply_add(name, size):
    space = load_space(name, size=size)
    archs = space.sample_many(ARCHS, 0, over="cost")
    for i in range(len(archs)):
        assert counted(build_network(space, archs[i]), size) == (archs.macs[i], archs.params[i])


def published(name: str, stages: list[dict], stem: dict, last: dict | None = None) -> SearchSpace:
    """A network as a space of one, with 1000 outputs for the embedding."""
    content = {"name": name, "size": 224, "embedding_dim": 1000, "stem": stem, "last": last}
    content["stages"] = [{"name": f"s{i}"} | stage for i, stage in enumerate(stages)]
    return SearchSpace(Declared(check_spec(content, name)))


def mobilenet_v2() -> SearchSpace:
    """MobileNetV2 1.0x (its table 2)."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    stages = [{"block": "mbconv", "width": c, "depth": n, "stride": s, "kernel": 3, "expansion": t}
              for t, c, n, s in rows]  # fmt: skip
    return published("mobilenet_v2", stages, {"width": 32, "stride": 2}, {"width": 1280, "kernel": 1})


def shufflenet_v2() -> SearchSpace:
    """ShuffleNetV2 1.0x (its table 5)."""
    stages = [{"block": "shuffle", "width": c, "depth": n, "stride": 2, "operator": "shuffle3", "expansion": 1}
              for c, n in ((116, 4), (232, 8), (464, 4))]  # fmt: skip
    return published("shufflenet_v2", stages, {"width": 24, "stride": 2, "pool": True}, {"width": 1024, "kernel": 1})


def resnet(space: str, depths: tuple[int, ...], widths: tuple[int, ...], expansion: float) -> Cost:
    """A member of one of our own spaces."""
    found = load_space(space, embedding_dim=1000)
    choices: dict[str, float] = {}
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        choices |= {f"stage{i}.width": width, f"stage{i}.depth": depth}
        choices |= {f"stage{i}.block{j}.expansion": expansion for j in range(1, depth + 1)}
    return found.cost(found.arch(choices))


BOTTLENECK, BASIC = (256, 512, 1024, 2048), (64, 128, 256, 512)


@pytest.mark.parametrize(
    ("cost", "macs", "params", "paper"),
    # Multiply-adds and parameters as torch's own networks have them, and the papers' figure.
    [
        (lambda: only(mobilenet_v2()), 300_774_272, 3_504_872, 300e6),
        (lambda: only(shufflenet_v2()), None, None, 146e6),
        (lambda: resnet("resnet", (3, 4, 6, 3), BOTTLENECK, 0.25), 4_089_184_256, 25_557_032, 4.09e9),
        (lambda: resnet("resnet", (3, 4, 23, 3), BOTTLENECK, 0.25), 7_801_405_440, 44_549_160, 7.8e9),
        (lambda: resnet("resnet_basic", (2, 2, 2, 2), BASIC, 1), 1_814_073_344, 11_689_512, 1.8e9),
        (lambda: resnet("resnet_basic", (3, 4, 6, 3), BASIC, 1), 3_663_761_408, 21_797_672, 3.6e9),
    ],
    ids=["MobileNetV2", "ShuffleNetV2", "ResNet-50", "ResNet-101", "ResNet-18", "ResNet-34"],
)
def test_published_networks_cost_what_was_published(cost, macs, params, paper):
    found = cost()
    assert found.macs == pytest.approx(paper, rel=0.02)
    if params is not None:
        assert found.params == params
        assert found.macs == pytest.approx(macs, rel=1e-9)


def only(space: SearchSpace) -> Cost:
    assert space.count() == 1
    return space.cost(space.extremes()[0])


def peak_of(network: nn.Module, size: int) -> int:
    """Most scalars alive while the network runs, by following every value to its last use.

    Elementwise operators write over an input that is not needed later, views cost nothing.
    """
    traced = fuse(network.eval())
    ShapeProp(traced).propagate(torch.zeros(1, 3, size, size))
    modules = dict(traced.named_modules())
    order = list(traced.graph.nodes)
    place = {node: i for i, node in enumerate(order)}
    last = {node: max((place[user] for user in node.users), default=place[node]) for node in order}
    storage: dict[fx.Node, fx.Node] = {}  # whose memory a value lives in

    def tensors(node: fx.Node) -> list[fx.Node]:
        return [n for n in node.all_input_nodes if n in storage]

    def numel(node: fx.Node) -> int:
        meta = node.meta.get("tensor_meta")
        return int(torch.Size(meta.shape).numel()) if hasattr(meta, "shape") else 0

    def kind(node: fx.Node) -> str:
        if node.op == "call_module":
            module = modules[str(node.target)]
            return "write" if isinstance(module, nn.ReLU | nn.ReLU6 | nn.Hardswish) else (
                "view" if isinstance(module, nn.Sequential | nn.Identity) else "new"
            )  # fmt: skip
        name = node.target if isinstance(node.target, str) else node.target.__name__
        if name in ("add", "mul", "relu", "hardsigmoid"):
            return "write"
        return "view" if name in ("chunk", "getitem", "contiguous") else "new"

    peak = 0
    for now, node in enumerate(order):
        inputs = tensors(node)
        if node.op in ("output", "get_attr") or (numel(node) == 0 and kind(node) != "view"):
            continue
        reuse = None
        if inputs and kind(node) == "view":
            reuse = inputs[0]
        elif inputs and kind(node) == "write":
            same = [n for n in inputs if numel(n) == numel(node) and _free_after(n, now, storage, last)]
            reuse = same[0] if same else None
        storage[node] = storage[reuse] if reuse is not None else node
        alive = {storage[n] for n in storage if last[n] >= now}
        peak = max(peak, sum(numel(n) for n in alive))
    return peak


def _free_after(node: fx.Node, now: int, storage: dict, last: dict) -> bool:
    return all(last[n] <= now for n in storage if storage[n] is storage[node])


@pytest.mark.parametrize(("name", "size"), SPACES)
def test_peak_memory_is_that_of_following_every_value(name, size):
    space = load_space(name, size=size)
    archs = space.sample_many(min(ARCHS, 50), 1, over="cost")
    for i in range(len(archs)):
        network = build_network(space, archs[i]).to(memory_format=torch.contiguous_format)
        assert archs.peak[i] == peak_of(network, size), archs[i].id


def test_costs_add_up():
    first, second = Cost(5, 2, 30), Cost(7, 1, 20)
    assert first + second == Cost(12, 3, 30)
    assert second.holding(15) + first == Cost(12, 3, 35)
    assert Cost(macs=1_500_000).mflops == 1.5
    assert Cost(peak=2**18).memory_mib == 1.0


def test_mflops_times_a_million_is_whole(small):
    cost = small.cost(small.extremes()[1])
    assert cost.mflops * 1e6 == cost.macs
