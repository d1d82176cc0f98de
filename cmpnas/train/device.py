"""Where and how precisely to compute."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

Precision = Literal["auto", "fp32", "bf16"]


def device() -> torch.device:
    """This process's GPU, or the processor."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def autocast(network: nn.Module, precision: Precision = "auto") -> AbstractContextManager[object]:
    """Mixed precision for ``network``: bf16, fp32, or whichever is faster here.

    That is bf16 on GPUs, and on processors that multiply it natively for networks without depthwise convolutions, which
    gain nothing from it. Emulated bf16 is tens of times slower than fp32.
    """
    where = device().type
    if precision == "auto":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        precision = "bf16" if where == "cuda" or (native and _is_dense(network)) else "fp32"
    return torch.autocast(where, torch.bfloat16, enabled=precision == "bf16")


def _is_dense(network: nn.Module) -> bool:
    return not any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())
