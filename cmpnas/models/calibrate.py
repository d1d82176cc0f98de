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
    """Set the BatchNorm statistics of ``network`` to the cumulative mean over ``batches``.

    Of one batch these are the exact statistics of the population; of several mixed ones they leave out how
    much the batches' means differ, about one part in the batch size.

    Args:
        network: a carved or static network; its weights stay as they are.
        batches: float images ``(N, 3, H, W)`` in [-1, 1].

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
    seen = 0
    try:
        for images in batches:
            network(images)
            seen += 1
    finally:
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        network.eval()
    if norms and not seen:
        raise DataError("there are no pictures to calibrate BatchNorm on.")
    return network
