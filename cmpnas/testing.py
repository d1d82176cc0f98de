"""A conformance suite: does a space of your own keep the promises that everything else relies on?

from cmpnas import load_space
from cmpnas.testing import check_space

def test_my_space():
    check_space(load_space("my_package.spaces:MySpace"))
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import torch

from cmpnas.cost.audit import audit
from cmpnas.cost.budget import Budget
from cmpnas.errors import BudgetError, SpaceError
from cmpnas.models import Supernet, build_network
from cmpnas.space import Arch, SearchSpace

_TOLERANCE = 1e-5


def check_space(space: SearchSpace, *, archs: int = 20, seed: int = 0) -> None:
    """Check ``space`` on its extremes and ``archs`` random architectures.

    The graph is well formed; layers fit together; ids are unique and architectures survive JSON; the
    cost in closed form is fvcore's count of the built network, to the last multiply-add and parameter,
    alone and in batches; a path of the supernet is the carved network; sampling keeps to budgets and
    unreachable ones are refused.

    Raises:
        SpaceError: some promise is broken; all of them listed.
    """
    broken = list(_graph(space))
    if not broken:
        rng = random.Random(seed)
        chosen = [*space.extremes(), *(space.sample(rng) for _ in range(archs))]
        broken = [*dict.fromkeys(_layers(space, chosen)), *_identities(space, chosen)]
    if not broken:
        broken = [*_costs(space, chosen), *_sampling(space, chosen), *_weights(space, chosen)]
    if broken:
        raise SpaceError(f"space {space.name!r} breaks {len(broken)} promises: " + "; ".join(broken) + ".")


def _graph(space: SearchSpace) -> Iterator[str]:
    edges = space.lattice.edges
    if len(edges) < 2 or edges[-1]:
        yield "the last node must be the sink, and nothing leaves it"
        return
    met = {0} | {edge.target for leaving in edges for edge in leaving}
    for node, leaving in enumerate(edges[:-1]):
        if not leaving:
            yield f"nothing leaves node {node}, which is not the sink"
        if node not in met:
            yield f"nothing leads to node {node}"
        if any(not node < edge.target < len(edges) for edge in leaving):
            yield f"an edge of node {node} does not lead to a higher node"
        taken = [edge.choices for edge in leaving]
        if len({tuple(name for name, _ in choices) for choices in taken}) > 1:
            yield f"edges of node {node} take different decisions"
        if len(set(taken)) < len(taken):
            yield f"two edges of node {node} take the same decisions with the same values"


def _identities(space: SearchSpace, archs: list[Arch]) -> Iterator[str]:
    by_id: dict[str, Arch] = {}
    for arch in archs:
        if by_id.setdefault(arch.id, arch) != arch:
            yield f"two architectures have the id {arch.id}"
        if space.from_json(json.loads(json.dumps(arch.to_json()))) != arch:
            yield f"{arch.id} does not survive JSON"


def _layers(space: SearchSpace, archs: list[Arch]) -> Iterator[str]:
    for arch in archs:
        channels, positions = 3, set()
        for layer in space.layers(arch):
            if layer.cin != channels:
                yield f"{layer.position} of {arch.id} reads {layer.cin} channels where {channels} arrive"
            if layer.position in positions:
                yield f"{arch.id} has two layers at {layer.position}"
            channels = layer.cout
            positions.add(layer.position)
        if channels != space.embedding_dim:
            yield f"{arch.id} ends with {channels} channels, not the embedding's {space.embedding_dim}"


def _costs(space: SearchSpace, archs: list[Arch]) -> Iterator[str]:
    batch = space.batch(archs)
    together = zip(batch.macs.tolist(), batch.params.tolist(), batch.peak.tolist(), strict=True)
    for arch, costs in zip(archs, together, strict=True):
        said = space.cost(arch)
        if costs != (said.macs, said.params, said.peak):
            yield f"{arch.id} costs {costs} in a batch and {said} alone"
        counted = audit(build_network(space, arch), space.size)
        if (counted.macs, counted.params) != (said.macs, said.params):
            yield (
                f"{arch.id} is said to cost {said.macs} multiply-adds and {said.params} parameters, "
                f"fvcore counts {counted.macs} and {counted.params}"
            )
        if said.peak <= 0:
            yield f"{arch.id} is said to need no memory"


def _sampling(space: SearchSpace, archs: list[Arch]) -> Iterator[str]:
    limit = sorted(space.cost(arch).mflops for arch in archs)[len(archs) // 2]
    drawn = space.sample_many(50, 0, max_mflops=limit)
    if not Budget(limit).allows_all(drawn.macs, drawn.params).all():
        yield f"architectures drawn within {limit:g} MFLOPs exceed them"
    try:
        space.sample(random.Random(0), max_mflops=1e-6)
        yield "a budget of 1 multiply-add is not refused"
    except BudgetError:
        pass


def _weights(space: SearchSpace, archs: list[Arch]) -> Iterator[str]:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.randn(2, 3, space.size, space.size)
        try:
            supernet = Supernet(space)
        except SpaceError as fault:
            yield str(fault).removesuffix(".")
            return
        for arch in archs:
            network = supernet.carve(arch).train()
            by_path, by_network = supernet(images, arch), network(images)
            if by_network.shape != (2, space.embedding_dim):
                yield f"{arch.id} embeds 2 images as {tuple(by_network.shape)}, not (2, {space.embedding_dim})"
            elif not torch.allclose(by_path, by_network, atol=_TOLERANCE, rtol=_TOLERANCE):
                yield f"the supernet's path {arch.id} is not the carved network"
