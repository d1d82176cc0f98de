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
from cmpnas.train.mixing import Frozen, Mixing


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
    mixing: Mixing | None = None,
) -> None:
    """Train ``network`` in place; calibrate it afterwards.

    The gallery space is ``anchor``, or learns in a ``mixing`` that began as it.
    """
    torch.manual_seed(seed)
    loss, teacher = CompatLoss(losses, anchor), mixing or Frozen(anchor)

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        with autocast(network, plan.precision):
            query = network(images).float()
        gallery, labels, own = teacher(indices, view, images.device)
        return own + loss(Batch(query, gallery, labels))

    together = nn.ModuleDict({"network": network, "loss": loss, "teacher": teacher})
    fit(
        "query", together, loss_at, train, plan, augmentation=augmentation, views=anchor.n_views,
        seed=seed, saved=saved, workers=workers, after_step=lambda: teacher.lead(loss),
    )  # fmt: skip
