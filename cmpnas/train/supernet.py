"""Training the shared weights against the frozen gallery space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self

import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat import Anchor, Batch, CompatLoss
from cmpnas.cost.budget import Budget
from cmpnas.data.augment import Augment
from cmpnas.data.items import Items
from cmpnas.models.network import Network
from cmpnas.models.supernet import Supernet
from cmpnas.space import SearchSpace
from cmpnas.train.device import autocast
from cmpnas.train.loop import Plan, fit
from cmpnas.train.mixing import Frozen, Mixing
from cmpnas.train.paths import Sampling, paths_at


@dataclass(frozen=True)
class SupernetPlan(Plan):
    """How to train a supernet: `Plan`, and which paths learn.

    Each step averages the loss of ``paths`` architectures drawn by ``sampling``. ``in_place`` weighs how much
    the others of a sandwich also follow its largest (in-place distillation, slimmable networks).
    """

    paths: Annotated[int, Field(ge=1)] = 1
    sampling: Sampling = "uniform"
    in_place: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.sampling == "sandwich" and self.paths < 3:
            raise ValueError(f"a sandwich has 3 paths or more (largest, smallest, some between); paths is {self.paths}")
        if self.in_place and self.sampling != "sandwich":
            raise ValueError(f"in_place needs the largest path in each step: sampling sandwich, not {self.sampling}")
        return self


def train_supernet(
    space: SearchSpace,
    anchor: Anchor,
    losses: dict[str, float],
    train: Items,
    plan: SupernetPlan,
    *,
    budget: Budget,
    augmentation: Augment,
    seed: int,
    saved: Path,
    workers: int = 0,
    mixing: Mixing | None = None,
) -> Supernet:
    """Train paths of one set of shared weights, all within ``budget``, each as if it were alone.

    The gallery space is ``anchor``, or learns in a ``mixing`` that began as it.
    """
    torch.manual_seed(seed)
    supernet = Supernet(space)
    loss, teacher = CompatLoss(losses, anchor), mixing or Frozen(anchor)
    steps = plan.steps(len(train))
    paths = paths_at(space, budget, plan.sampling, steps=steps, paths=plan.paths, seed=seed)
    with torch.device("meta"):
        example = Network(space.layers(space.extremes()[1]))

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        gallery, labels, own = teacher(indices, view, images.device)
        total, largest = images.new_zeros(()), None
        for arch in paths(step):
            with autocast(example, plan.precision):
                query = supernet(images, arch).float()
            total = total + loss(Batch(query, gallery, labels))
            if plan.in_place and largest is None:
                largest = F.normalize(query.detach())
            elif largest is not None:
                total = total + plan.in_place * (1 - (F.normalize(query) * largest).sum(1)).mean()
        return own + total / plan.paths

    together = nn.ModuleDict({"supernet": supernet, "loss": loss, "teacher": teacher})
    fit(
        "supernet", together, loss_at, train, plan, augmentation=augmentation, views=anchor.n_views,
        seed=seed, saved=saved, workers=workers, after_step=lambda: teacher.lead(loss),
    )  # fmt: skip
    return supernet
