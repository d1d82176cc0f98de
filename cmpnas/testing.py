"""Conformance suites: does a space or a controller of your own keep the promises that everything else relies on?

from cmpnas import load_space
from cmpnas.testing import check_controller, check_space

def test_my_space():
    check_space(load_space("my_package.spaces:MySpace"))

def test_my_controller():
    check_controller("my_package.controllers:MyController")
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import numpy as np
import torch

from cmpnas.cost.audit import audit
from cmpnas.cost.budget import Budget
from cmpnas.errors import BudgetError, CmpnasError, SpaceError
from cmpnas.models import Supernet, build_network
from cmpnas.search.controllers import Controller, find_controller
from cmpnas.search.feasible import Feasible, Table, Within
from cmpnas.space import Arch, SearchSpace, load_space

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
    if not drawn.within(Budget(limit)).all():
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


def check_controller(name: str, *, steps: int = 30) -> None:
    """Check the controller called ``name``, or named as ``package.module:Class``, on searches of ``steps`` evaluations.

    Proposals are feasible and new, in a space under a budget and in a table; a seed gives one search, whatever else
    has used chance; repeating asks and tells restores a controller; several proposals may be outstanding and told in
    any order, and results told that were not asked for; the search ends when nothing new is left and not before.

    Raises:
        CmpnasError: some promise is broken; all of them listed.
    """
    space = load_space("tiny")
    low, high = (space.cost(arch).mflops for arch in space.extremes())
    drawn = space.everything(Budget(), at_most=1000) or space.batch([])
    some = [drawn[number] for number in range(0, len(drawn), len(drawn) // steps)]
    table = Table(space, some, [space.cost(arch).mflops for arch in some])
    within = Within(space, Budget(low + 0.5 * (high - low)))
    broken = [*_proposals(name, within, steps), *_proposals(name, table, len(some))]
    broken += [*_memory(name, within, steps), *_hearing(name, table)]
    if broken:
        raise CmpnasError(f"controller {name!r} breaks {len(broken)} promises: " + "; ".join(broken) + ".")


def _proposals(name: str, feasible: Feasible, steps: int) -> Iterator[str]:
    where = "a table" if isinstance(feasible, Table) else "a space"
    asked = _drive(_start(name, feasible, 0), feasible, steps + 1)
    allowed = set(feasible.archs) if isinstance(feasible, Table) else None
    for number, arch in enumerate(asked):
        if arch in asked[:number]:
            yield f"in {where} it proposes {arch.id} twice"
        elif allowed is not None and arch not in allowed:
            yield f"it proposes {arch.id}, which is not in the table"
        elif isinstance(feasible, Within) and not feasible.budget.allows(feasible.space.cost(arch)):
            yield f"it proposes {arch.id}, which exceeds the budget"
    if len(asked) < steps or (allowed and len(asked) > len(allowed)):
        yield f"in {where} of {len(allowed) if allowed else 'hundreds'} it proposes {len(asked)}"


def _memory(name: str, feasible: Within, steps: int) -> Iterator[str]:
    whole = _drive(_start(name, feasible, 1), feasible, steps)
    random.seed(1)
    np.random.seed(1)
    if _drive(_start(name, feasible, 1), feasible, steps) != whole:
        yield "one seed gives two searches"
    restored = _start(name, feasible, 1)
    if [*_drive(restored, feasible, steps // 2), *_drive(restored, feasible, steps - steps // 2)] != whole:
        yield "repeating asks and tells does not restore it"
    controller = _start(name, feasible, 2)
    asked: list[Arch] = []
    while len(asked) < steps and (batch := [arch for _ in range(4) if (arch := controller.ask()) is not None]):
        for arch in reversed(batch[:3]):  # the fourth is never told
            _tell(controller, feasible, arch)
        asked += batch
    if len(set(asked)) < len(asked):
        yield "with several outstanding it proposes one that was asked for"


def _hearing(name: str, table: Table) -> Iterator[str]:
    controller, told = _start(name, table, 3), table.archs[::2]
    for arch in told:
        _tell(controller, table, arch)
    asked = _drive(controller, table, len(table.archs))
    if set(asked) & set(told):
        yield "it proposes what it was told without asking"


def _start(name: str, feasible: Feasible, seed: int) -> Controller:
    return find_controller(name)(feasible, population=8, seed=seed)


def _drive(controller: Controller, feasible: Feasible, steps: int) -> list[Arch]:
    asked: list[Arch] = []
    while len(asked) < steps and (arch := controller.ask()) is not None:
        asked.append(arch)
        _tell(controller, feasible, arch)
    return asked


def _tell(controller: Controller, feasible: Feasible, arch: Arch) -> None:
    """With a score that follows from the architecture: decisions count differently, and more is better."""
    genes = feasible.genes(arch)
    score = float((genes * (1 + np.arange(len(genes)) % 3)).sum()) / 100
    cost = float(feasible.nearest_many(genes[None]).cost[0])
    controller.tell(arch, score, cost)
