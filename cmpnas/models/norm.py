"""BatchNorm whose training statistics are those of the whole batch, however many processes share it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmpnas.distributed import mean, world_size


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, its statistics taken over all processes of a distributed training step.

    So n processes learn what one would with the whole batch. Where no gradient is asked for, as in calibration, a
    process is on its own. (torch's SyncBatchNorm does the same on GPUs alone.)
    """

    def forward(self, x: Tensor) -> Tensor:
        batch = self.training or self.running_mean is None
        if world_size() == 1 or not batch or not torch.is_grad_enabled():
            return super().forward(x)
        wide = x.float()
        centre = mean(wide.mean((0, 2, 3)))
        spread = mean((wide - centre[:, None, None]).square().mean((0, 2, 3)))
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            count = x.numel() // x.shape[1] * world_size()
            with torch.no_grad():
                self.running_mean.lerp_(centre, self.momentum or 0.1)
                self.running_var.lerp_(spread * count / (count - 1), self.momentum or 0.1)
                self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(spread + self.eps)
        return (wide * scale[:, None, None] + (self.bias - centre * scale)[:, None, None]).to(x.dtype)
