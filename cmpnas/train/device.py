"""Where and how precisely to compute."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def device() -> torch.device:
    """The first GPU, or the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dense_autocast() -> AbstractContextManager[object]:
    """bf16 for dense networks where the hardware multiplies it natively, else full precision.

    Emulated bf16 is tens of times slower than fp32, and depthwise networks gain nothing from it.
    """
    where = device().type
    native = where == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(where, torch.bfloat16, enabled=native)
