"""BatchNorm whose training statistics are those of the whole batch, however many processes share it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from cmpnas.distributed import mean, world_size


@contextmanager
def shared_statistics() -> Iterator[None]:
    """Let every BatchNorm of torch take its statistics over all processes of a distributed training.

    So n processes learn what one would with the whole batch, in blocks of the user's own too, and networks stay of
    torch's plain modules. (torch's SyncBatchNorm does the same on GPUs alone, and by other modules.)
    """
    if world_size() == 1:
        yield
        return
    alone = _BatchNorm.forward
    _BatchNorm.forward = _together  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        _BatchNorm.forward = alone  # type: ignore[method-assign]


def _together(self: _BatchNorm, x: Tensor) -> Tensor:
    """What `_BatchNorm.forward` does in training, with means over all processes' equal shares."""
    wide, sides = x.float(), [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    centre = mean(wide.mean(sides))
    spread = mean((wide - centre.view(shape)).square().mean(sides))
    if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
        count = x.numel() // x.shape[1] * world_size()
        momentum = 0.1 if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(centre, momentum)
            self.running_var.lerp_(spread * count / (count - 1), momentum)
            self.num_batches_tracked.add_(1)
    unit = (wide - centre.view(shape)) * torch.rsqrt(spread + self.eps).view(shape)
    if self.affine:
        unit = unit * self.weight.view(shape) + self.bias.view(shape)
    return unit.to(x.dtype)
