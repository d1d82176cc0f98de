"""Gradients averaged over the processes of ``torchrun``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


def average_gradients(modules: nn.Module) -> None:
    """Replace every gradient by its mean over all processes; does nothing in a single one.

    All processes draw the same paths in a step, so all have gradients for the same parameters: one
    reduction of just those, and no search for the unused, which a supernet has by the thousand.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    gradients = [p.grad for p in modules.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
