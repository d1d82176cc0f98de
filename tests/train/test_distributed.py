"""Two processes train one supernet: every path of a step is used by all, so no parameter has to be looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from cmpnas.models import Supernet
from cmpnas.space import load_space
from cmpnas.train.distributed import average_gradients

IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def gradients(supernet: Supernet, images: torch.Tensor) -> dict[str, torch.Tensor]:
    supernet.zero_grad()
    archs = supernet.space.sample_many(2, 3)
    for i in range(2):
        supernet(images, archs[i]).square().sum().backward()
    return {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}


def make() -> Supernet:
    torch.manual_seed(0)
    return Supernet(load_space("tiny", size=32, embedding_dim=8))


def work(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    supernet, mine = make(), IMAGES[rank * 4 : rank * 4 + 4]
    gradients(supernet, mine)
    average_gradients(supernet)
    found = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    wrapped = nn.parallel.DistributedDataParallel(make(), find_unused_parameters=True)
    arch = supernet.space.extremes()[0]
    wrapped(mine, arch).square().sum().backward()
    peer = {name: p.grad for name, p in wrapped.module.named_parameters() if p.grad is not None}
    torch.save((found, peer), f"{out}{rank}")
    dist.destroy_process_group()


def test_averaged_gradients_are_the_mean_of_the_processes(tmp_path):
    if not dist.is_available():
        pytest.skip("this torch has no distributed package")
    torch.multiprocessing.spawn(work, (str(tmp_path / "store"), str(tmp_path / "out")), nprocs=2)
    results = [torch.load(Path(f"{tmp_path}/out{rank}"), weights_only=True) for rank in (0, 1)]
    alone = [gradients(make(), IMAGES[rank * 4 : rank * 4 + 4]) for rank in (0, 1)]
    for found, _ in results:
        assert set(found) == set(alone[0])
        for name, value in found.items():
            mean = (alone[0][name] + alone[1][name]) / 2
            assert torch.allclose(value, mean, atol=1e-3 * float(mean.abs().max()) + 1e-4), name
    supernet = make()
    arch = supernet.space.extremes()[0]
    for rank in (0, 1):
        supernet(IMAGES[rank * 4 : rank * 4 + 4], arch).square().sum().div(2).backward()
    peer = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    assert set(results[0][1]) == set(peer)
    assert all(
        torch.allclose(results[1][1][name], value, atol=1e-3 * float(value.abs().max()) + 1e-4)
        for name, value in peer.items()
    )


def test_one_process_needs_no_group():
    supernet = make()
    before = {name: value.clone() for name, value in gradients(supernet, IMAGES).items()}
    average_gradients(supernet)
    assert all(torch.equal(p.grad, before[n]) for n, p in supernet.named_parameters() if p.grad is not None)
