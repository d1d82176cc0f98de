"""The processes of ``torchrun``: each trains on its share of every batch, and all hold the same weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cmpnas.errors import RunError

#: What tells a process that it is one of several, and which.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(hours=24)  # the others wait while the first embeds a gallery


def rank() -> int:
    """Number of this process, 0 where there is only one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def together() -> Iterator[None]:
    """Work with the other processes of ``torchrun``, on a GPU each where there are GPUs; nothing in a single one."""
    if world_size() == 1:
        yield
        return
    if torch.cuda.is_available():
        mine, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if mine >= there:
            raise RunError(f"process {mine + 1} of this machine has none of its {there} GPUs; use as many processes.")
        torch.cuda.set_device(mine)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def agree(here: bool) -> bool:
    """What the first process says, in all of them: whether a file is there may differ while one writes it."""
    if world_size() == 1:
        return here
    said = [here]
    dist.broadcast_object_list(said, src=0)
    return said[0]


@contextmanager
def first_alone() -> Iterator[bool]:
    """Is this the first process? It goes through alone; the others follow and find what it left."""
    if rank() > 0:
        dist.barrier()
    yield rank() == 0
    if rank() == 0 and world_size() > 1:
        dist.barrier()


def begin_equal(modules: nn.Module) -> None:
    """Give the weights of all processes those of the first, for what GPUs compute differs in the last bits."""
    if world_size() > 1:
        for value in modules.parameters():
            dist.broadcast(value.data, src=0)


def average_gradients(modules: nn.Module) -> None:
    """Replace every gradient by its mean over all processes; does nothing in a single one.

    All processes draw the same paths in a step, so all have gradients for the same parameters: one
    reduction of just those, and no search for the unused, which a supernet has by the thousand.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in modules.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def mean(tensor: Tensor) -> Tensor:
    """Mean of ``tensor`` over all processes; gradients flow to each one's own."""
    return tensor if world_size() == 1 else _Sum.apply(tensor) / world_size()  # type: ignore[no-untyped-call]


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes in their order, ``(B, ...)`` to ``(B * world, ...)``; gradients flow to each one's own."""
    if world_size() == 1:
        return tensor
    rows = tensor.new_zeros(world_size(), *tensor.shape)
    rows[rank()] = tensor
    whole: Tensor = _Sum.apply(rows)  # type: ignore[no-untyped-call]
    return whole.flatten(0, 1)


class _Sum(torch.autograd.Function):
    """Sum over all processes, of values and of gradients."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        dist.all_reduce(total)
        return total
