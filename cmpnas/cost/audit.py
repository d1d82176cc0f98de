"""fvcore as an independent auditor of the closed-form count."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from cmpnas.cost.value import Cost
from cmpnas.errors import SpaceError

#: Operators that multiply nothing we count: norms fold away, pooling and resizing are not convolutions.
_FREE = (
    "aten::batch_norm", "aten::adaptive_avg_pool2d", "aten::max_pool2d", "aten::mean", "aten::upsample_bilinear2d",
    "aten::upsample_nearest2d", "aten::layer_norm", "aten::group_norm", "aten::instance_norm",
)  # fmt: skip
#: What multiplies: an operator of such a name that fvcore does not know must not count as nothing.
_MULTIPLIES = ("conv", "mm", "matmul", "linear", "einsum", "attention", "lstm", "gru")


def audit(network: nn.Module, size: int, unit: str = "px") -> Cost:
    """Count ``network`` with fvcore on one ``size`` x ``size`` RGB image, or on a text of ``size`` ``tokens``.

    The network is left in eval mode, which is how a count is defined.

    Raises:
        SpaceError: it holds an operator that multiplies and that fvcore cannot count.
    """
    from fvcore.nn import FlopCountAnalysis

    example = torch.ones(1, size, dtype=torch.int64) if unit == "tokens" else torch.zeros(1, 3, size, size)
    count = FlopCountAnalysis(network.eval(), example)
    count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    count.set_op_handle(
        **dict.fromkeys(_FREE, _nothing),
        **{"aten::scaled_dot_product_attention": _attention, "aten::gru": _gru},
    )
    total = int(count.total())
    unknown = [name for name in count.unsupported_ops() if any(part in name for part in _MULTIPLIES)]
    if unknown:
        raise SpaceError(f"fvcore cannot count {unknown[0]!r}, so the cost cannot be audited.")
    params = sum(p.numel() for p in network.parameters())
    return Cost(total, params)


def _nothing(inputs: object, outputs: object) -> int:
    return 0


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Both products of attention: queries with keys, and weights with values."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return int(math.prod(query) * key[-2] + math.prod(query[:-1]) * key[-2] * value[-1])


def _gru(inputs: list[Any], outputs: list[Any]) -> int:
    """All matrices of one layer, three gates of what comes and three of what is remembered, at every step."""
    batch, length = outputs[0].type().sizes()[:2]
    weights = [value.type().sizes() for value in inputs[2].node().inputs()]
    return int(batch * length * sum(math.prod(sizes) for sizes in weights if len(sizes) == 2))
