"""The training loop of every stage: a pure function of (seed, step), so it resumes exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from cmpnas.data.augment import Augment, augment
from cmpnas.data.images import to_float
from cmpnas.data.items import Items, Steps, batches
from cmpnas.errors import RunError
from cmpnas.progress import track
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.distributed import average_gradients

_SAVE_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    ``lr`` is the peak of AdamW's rate, reached after ``warmup`` (a share of all steps) and followed by
    a half cosine to zero.
    """

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    batch_size: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def steps(self, n: int) -> int:
        """Optimiser steps on ``n`` images."""
        return max(1, round(self.epochs * (n // self.batch_size)))

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at ``step`` of ``steps``."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return self.lr * (step + 1) / rise
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


StepLoss = Callable[[Tensor, Tensor, int], Tensor]


def fit(
    what: str,
    modules: nn.Module,
    loss_at: StepLoss,
    items: Items,
    plan: Plan,
    *,
    augmentation: Augment,
    seed: int,
    saved: Path,
    workers: int = 0,
) -> None:
    """Train ``modules`` in place; continue from ``saved`` if it is there.

    Args:
        what: name shown in progress.
        modules: everything with weights that learn.
        loss_at: ``(images, indices, step)`` to a scalar loss; images are float ``(B, 3, S, S)`` after
            augmentation, indices int64 ``(B,)`` into ``items``.
        saved: checkpoint of step, weights and optimiser; the caller removes it at the end.

    Raises:
        RunError: the loss is not finite, or ``saved`` is damaged or of another training.
    """
    where = device()
    modules.to(where).train()
    steps = plan.steps(len(items))
    optimiser = torch.optim.AdamW(_groups(modules, plan.weight_decay), lr=plan.lr)
    start = _resume(modules, optimiser, saved) if saved.exists() else 0
    last_saved = time.monotonic()
    order = Steps(len(items), plan.batch_size, seed, start, steps)
    feed = enumerate(batches(items, order, workers), start)
    for step, (images, indices) in track(feed, what, total=steps, done=start):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step, steps)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        images = augment(to_float(images), augmentation, generator)
        loss = loss_at(images.to(where, non_blocking=True), indices, step)
        if not torch.isfinite(loss):
            raise RunError(f"the loss of {what} is {loss.item()} at step {step}; lower its lr.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(modules)
        nn.utils.clip_grad_norm_(modules.parameters(), 5.0)
        optimiser.step()
        if time.monotonic() - last_saved > _SAVE_EVERY:
            _save(modules, optimiser, step + 1, saved)
            last_saved = time.monotonic()
    _save(modules, optimiser, steps, saved)
    modules.eval()


def _groups(modules: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels, none for norms and biases."""
    learned = [p for p in modules.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _save(modules: nn.Module, optimiser: torch.optim.Optimizer, step: int, path: Path) -> None:
    state = {"step": step, "modules": modules.state_dict(), "optimiser": optimiser.state_dict()}
    checkpoint.save(state, path)


def _resume(modules: nn.Module, optimiser: torch.optim.Optimizer, path: Path) -> int:
    state = checkpoint.load(path)
    try:
        modules.load_state_dict(state["modules"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    except (KeyError, TypeError, ValueError, RuntimeError) as fault:
        reason = str(fault).splitlines()[0]
        raise RunError(f"{path} is a checkpoint of another training ({reason}); delete it.") from None
