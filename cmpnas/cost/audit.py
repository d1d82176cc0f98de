"""fvcore as an independent auditor of the closed-form count."""

from __future__ import annotations

import torch
from torch import nn

from cmpnas.cost.value import Cost

#: Operators that multiply nothing we count: norms fold away, pooling and resizing are not convolutions.
_FREE = (
    "aten::batch_norm", "aten::adaptive_avg_pool2d", "aten::max_pool2d", "aten::mean", "aten::upsample_bilinear2d",
)  # fmt: skip


def audit(network: nn.Module, size: int) -> Cost:
    """Count ``network`` on one ``size`` x ``size`` RGB image with fvcore.

    The network is left in eval mode, which is how a count is defined.
    """
    from fvcore.nn import FlopCountAnalysis

    count = FlopCountAnalysis(network.eval(), torch.zeros(1, 3, size, size))
    count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    count.set_op_handle(**dict.fromkeys(_FREE, _nothing))
    params = sum(p.numel() for p in network.parameters())
    return Cost(int(count.total()), params)


def _nothing(inputs: object, outputs: object) -> int:
    return 0
