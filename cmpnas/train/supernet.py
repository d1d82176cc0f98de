"""Training the shared weights against the frozen gallery space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self, cast

import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat import Anchor, Batch, CompatLoss
from cmpnas.cost.budget import Budget
from cmpnas.data.augment import Augment
from cmpnas.data.items import Items
from cmpnas.distributed import agree, begin_equal
from cmpnas.models.blocks import Embed
from cmpnas.models.calibrate import calibrate
from cmpnas.models.folded import Folded
from cmpnas.models.network import Network
from cmpnas.models.pretrained import start_from
from cmpnas.models.ridge import fit_linear
from cmpnas.models.supernet import Supernet
from cmpnas.space import SearchSpace
from cmpnas.train.device import autocast, device
from cmpnas.train.loop import Plan, fit
from cmpnas.train.mixing import Frozen, Mixing
from cmpnas.train.paths import Sampling, paths_at

_SEEN, _FITTED = 128, 8192  # pictures at once, and those that the embedding layer begins with


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
    weights: Sequence[Folded] | None = None,
    workers: int = 0,
    mixing: Mixing | None = None,
) -> Supernet:
    """Train paths of one set of shared weights, all within ``budget``, each as if it were alone.

    The gallery space is ``anchor``, or learns in a ``mixing`` that began as it. ``weights`` are convolutions of the
    largest network that is to start with (`start_from`).
    """
    torch.manual_seed(seed)
    supernet = Supernet(space)
    if weights is not None and agree(not saved.exists()):
        _begin(supernet.to(device()), weights, anchor, train)
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


def start_on(supernet: Supernet, weights: Sequence[Folded], learned: Items) -> Network:
    """`start_from`, by some of the pictures that are learned from."""
    return start_from(supernet, weights, next(learned.sample_batches(_SEEN, _SEEN)).to(device()))


@torch.no_grad()
def _begin(supernet: Supernet, weights: Sequence[Folded], anchor: Anchor, train: Items) -> None:
    """Start from ``weights``, the embedding layer at what takes their features nearest to the anchor's embeddings."""
    network = start_on(supernet, weights, train)
    calibrate(network, (images.to(device()) for images in train.sample_batches(_SEEN, 4 * _SEEN)))
    embed = cast(Embed, network[-1])
    linear, embed.linear = embed.linear, nn.Identity()  # type: ignore[assignment]
    rows = train.sample(_FITTED)
    features = torch.cat([network(images.to(device())).cpu() for images in train.float_batches(_SEEN, rows)])
    fit_linear(linear, features.numpy(), anchor.embeddings[rows].numpy())
    shared = supernet.slices(supernet.space.layers(supernet.space.extremes()[1])[-1])
    shared["linear.weight"].copy_(linear.weight)
    shared["linear.bias"].copy_(linear.bias)
    begin_equal(supernet)
