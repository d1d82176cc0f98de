"""Training the shared weights against the frozen gallery space."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cmpnas.compat import Anchor, CompatLoss
from cmpnas.cost.budget import Budget
from cmpnas.data.augment import Augment
from cmpnas.data.items import Items
from cmpnas.models.supernet import Supernet
from cmpnas.space import SearchSpace
from cmpnas.train.loop import Plan, fit


def train_supernet(
    space: SearchSpace,
    anchor: Anchor,
    losses: dict[str, float],
    train: Items,
    plan: Plan,
    *,
    budget: Budget,
    paths: int,
    augmentation: Augment,
    seed: int,
    saved: Path,
    workers: int = 0,
) -> Supernet:
    """Train by uniform paths (single-path one-shot): each step averages the loss of ``paths`` of them.

    Paths are drawn uniformly from the architectures within ``budget``: weights that no feasible
    architecture uses are not worth a step.
    """
    torch.manual_seed(seed)
    supernet = Supernet(space)
    loss = CompatLoss(losses, anchor)
    many = plan.steps(len(train)) * paths
    drawn = space.sample_many(many, seed, max_mflops=budget.mflops, max_params_m=budget.params_m)

    def loss_at(images: Tensor, indices: Tensor, step: int) -> Tensor:
        total = images.new_zeros(())
        for number in range(step * paths, (step + 1) * paths):
            total = total + loss(anchor.batch(supernet(images, drawn[number]), indices))
        return total / paths

    both = nn.ModuleDict({"supernet": supernet, "loss": loss})
    fit(
        "supernet", both, loss_at, train, plan,
        augmentation=augmentation, seed=seed, saved=saved, workers=workers,
    )  # fmt: skip
    return supernet
