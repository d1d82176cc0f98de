"""The training loop of every stage: a pure function of (seed, step), so it resumes exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cmpnas.data.augment import Augment, augment, draws
from cmpnas.data.images import to_float
from cmpnas.data.items import Items, Steps, batches
from cmpnas.distributed import agree, average_gradients, rank, world_size
from cmpnas.errors import RecipeError, RunError
from cmpnas.models.norm import shared_statistics
from cmpnas.progress import track
from cmpnas.train import checkpoint
from cmpnas.train.device import Precision, device, keep_freed_memory

_SAVE_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    ``lr`` is the peak of AdamW's rate, reached after ``warmup`` (a share of all steps) and followed by
    a half cosine to zero. ``batch_size`` is what one step sees, in all processes together; each computes its
    share in ``accumulate`` parts. ``ema``: decay of the running average of the weights that is kept in
    the end, 0 for none.
    """

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    batch_size: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    accumulate: Annotated[int, Field(ge=1)] = 1
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Precision = "auto"

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def steps(self, n: int) -> int:
        """Optimiser steps on ``n`` images."""
        return max(1, round(self.epochs * (n // self.batch_size)))

    def check_shares(self) -> None:
        """Check that a batch can be cut into equal parts for all processes.

        Raises:
            RecipeError: it cannot.
        """
        parts = world_size() * self.accumulate
        if self.batch_size % parts:
            raise RecipeError(
                f"batch_size {self.batch_size} cannot be cut into equal shares for {world_size()} processes of "
                f"{self.accumulate} parts each; use a multiple of {parts}."
            )

    def must_fit(self, n: int) -> None:
        """Check, before anything is trained, that ``n`` images are a batch at least, which can be shared.

        Raises:
            DataError: they are fewer.
            RecipeError: see `check_shares`.
        """
        self.check_shares()
        Steps(n, self.batch_size, 0, 0, 0)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at ``step`` of ``steps``."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return self.lr * (step + 1) / rise
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


StepLoss = Callable[[Tensor, Tensor, int, int], Tensor]
B = TypeVar("B")


def fit(
    what: str,
    modules: nn.Module,
    loss_at: StepLoss,
    items: Items,
    plan: Plan,
    *,
    augmentation: Augment,
    views: int = 0,
    seed: int,
    saved: Path,
    workers: int = 0,
    after_step: Callable[[], None] | None = None,
) -> None:
    """Train ``modules`` in place; continue from ``saved`` if it is there.

    Args:
        what: name shown in progress.
        modules: everything with weights that learn.
        loss_at: ``(images, indices, view, step)`` to a scalar loss; images are float ``(B, 3, S, S)``, view number
            ``view`` of the pictures ``indices``, int64 ``(B,)``.
        views: how many augmented views of a picture there are, one an epoch in turn; 0 for a fresh one each.
        saved: checkpoint of step, weights and optimiser; the caller removes it at the end.
        after_step: changes weights of ``modules`` that no gradient does, once the optimiser has stepped.

    Raises:
        RunError: the loss is not finite, or ``saved`` is damaged or of another training.
        RecipeError: the batch cannot be shared by the processes and parts.
    """
    where = device()

    def losses(batch: tuple[Tensor, Tensor], step: int) -> Iterator[Tensor]:
        images, indices = batch
        view = step // (len(items) // plan.batch_size)
        view = view % views if views else view
        images = augment(to_float(images), augmentation, draws(indices, view))
        for part, chosen in zip(images.chunk(plan.accumulate), indices.chunk(plan.accumulate), strict=True):
            yield loss_at(part.to(where, non_blocking=True), chosen, view, step) / plan.accumulate

    descend(
        what, modules, losses, lambda order: batches(items, order, workers), plan,
        n=len(items), seed=seed, saved=saved, after_step=after_step,
    )  # fmt: skip


def descend(
    what: str,
    modules: nn.Module,
    losses: Callable[[B, int], Iterable[Tensor]],
    feed: Callable[[Steps], Iterable[B]],
    plan: Plan,
    *,
    n: int,
    seed: int,
    saved: Path,
    after_step: Callable[[], None] | None = None,
) -> None:
    """`fit` on whatever ``feed`` makes of the order of ``n`` items.

    Args:
        losses: of a batch and the step, scalars whose gradients add up; each is let go before the next is computed.
        feed: from batches of indices to batches.

    Raises:
        RunError, RecipeError: as `fit`.
    """
    keep_freed_memory()
    modules.to(device()).train()
    steps = plan.steps(n)
    state = _State(modules, plan)
    start = state.resume(saved) if agree(saved.exists()) else 0
    last_saved = time.monotonic()
    order = Steps(n, plan.batch_size, seed, start, steps, share=(rank(), world_size()), parts=plan.accumulate)
    optimiser = state.optimiser
    with shared_statistics():
        for step, batch in track(enumerate(feed(order), start), what, total=steps, done=start):
            for group in optimiser.param_groups:
                group["lr"] = plan.rate(step, steps)
            optimiser.zero_grad(set_to_none=True)
            for loss in losses(batch, step):
                if not torch.isfinite(loss):
                    raise RunError(f"the loss of {what} is {loss.item()} at step {step}; lower its lr.")
                loss.backward()
            average_gradients(modules)
            nn.utils.clip_grad_norm_(modules.parameters(), 5.0)
            optimiser.step()
            if after_step is not None:
                after_step()
            state.average()
            if time.monotonic() - last_saved > _SAVE_EVERY:
                state.save(step + 1, saved)
                last_saved = time.monotonic()
    state.save(steps, saved)
    state.finish()
    modules.eval()


class _State:
    """All that a training is, besides its step: weights, optimiser, the running average of the weights."""

    def __init__(self, modules: nn.Module, plan: Plan) -> None:
        plan.check_shares()
        self.modules = modules
        self.optimiser = torch.optim.AdamW(_groups(modules, plan.weight_decay), lr=plan.lr, fused=True)
        self.averaged: AveragedModel | None = None
        if plan.ema:
            self.averaged = AveragedModel(modules, multi_avg_fn=get_ema_multi_avg_fn(plan.ema), use_buffers=True)

    def average(self) -> None:
        """Take the weights of this step into the running average."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.modules)

    def finish(self) -> None:
        """Keep the running average, where there is one, as the weights."""
        if self.averaged is not None:
            self.modules.load_state_dict(self.averaged.module.state_dict())

    def save(self, step: int, path: Path) -> None:
        """Write everything to ``path``; of several processes the first does."""
        if rank() > 0:
            return
        state: dict[str, Any] = {"step": step}
        for name, part in self._parts.items():
            state[name] = part.state_dict()
        checkpoint.save(state, path)

    def resume(self, path: Path) -> int:
        """Read back what `save` wrote and return the step to go on with."""
        state = checkpoint.load(path)
        try:
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
            return int(state["step"])
        except (KeyError, TypeError, ValueError, RuntimeError) as fault:
            reason = str(fault).splitlines()[0]
            raise RunError(f"{path} is a checkpoint of another training ({reason}); delete it.") from None

    @property
    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"modules": self.modules, "optimiser": self.optimiser}
        return parts if self.averaged is None else {**parts, "averaged": self.averaged}


def _groups(modules: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels, none for norms and biases."""
    learned = [p for p in modules.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
