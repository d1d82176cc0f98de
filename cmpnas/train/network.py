"""Training one chosen architecture to the end."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cmpnas.compat import Anchor, Batch, CompatLoss
from cmpnas.data.augment import Augment
from cmpnas.data.items import Items
from cmpnas.train.device import autocast
from cmpnas.train.loop import Plan, fit


def train_network(
    network: nn.Module,
    anchor: Anchor,
    losses: dict[str, float],
    train: Items,
    plan: Plan,
    *,
    augmentation: Augment,
    seed: int,
    saved: Path,
    workers: int = 0,
) -> None:
    """Train ``network`` in place to speak the language of ``anchor``; calibrate it afterwards."""
    torch.manual_seed(seed)
    loss = CompatLoss(losses, anchor)

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        with autocast(network, plan.precision):
            query = network(images).float()
        return loss(Batch(query, *(known.to(images.device) for known in anchor.look(indices, view))))

    fit(
        "query", nn.ModuleDict({"network": network, "loss": loss}), loss_at, train, plan,
        augmentation=augmentation, views=anchor.n_views, seed=seed, saved=saved, workers=workers,
    )  # fmt: skip
