"""BatchNorm statistics of one network, re-estimated from training images.

A supernet's weights serve many architectures, and each sees other activations: stale statistics
make scores meaningless (heterogeneous mAP .29 instead of .75 in our own measurement).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cmpnas.errors import DataError


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Set the BatchNorm statistics of ``network`` to those of all ``batches`` together.

    Means are cumulative, and a variance is the mean within batches plus that of the batches' means. For a layer whose
    input does not depend on the batching (the first; all, of one batch) these are the statistics of the population.

    Args:
        network: a carved or static network; its weights stay as they are.
        batches: float images ``(N, 3, H, W)`` in [-1, 1], of one size but for the last.

    Returns:
        The same network, in eval mode.

    Raises:
        DataError: there are no batches.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    network.eval()
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # cumulative mean
        module.train()
    means, variances = ([getattr(module, f"running_{name}") for module in norms] for name in ("mean", "var"))
    between = torch.zeros_like(_joined(means))  # squared distances of the batches' means, summed
    seen = 0
    try:
        for images in batches:
            before = _joined(means)
            network(images)
            seen += 1
            # Each moved 1 / seen of the way to the batch's mean.
            between += seen * (seen - 1) * (_joined(means) - before).square()
        for variance, spread in zip(variances, between.split([len(mean) for mean in means]), strict=True):
            variance += spread / max(1, seen)
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        network.eval()
    if norms and not seen:
        raise DataError("there are no pictures to calibrate BatchNorm on.")
    return network


def _joined(means: list[Tensor]) -> Tensor:
    """A copy of all in one tensor, so that one operation serves every layer."""
    return torch.cat(means) if means else torch.zeros(0)
