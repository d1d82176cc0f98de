"""Where and how precisely to compute."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Literal

import torch
from torch import nn

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h
Precision = Literal["auto", "fp32", "bf16"]


def device() -> torch.device:
    """This process's GPU, or the processor."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


@cache
def keep_freed_memory() -> None:
    """Have the C library keep up to two gigabytes that were freed, for the next tensor.

    Otherwise glibc hands large tensors' pages back to the system at once and asks for new ones, cleared, at the next
    operation, which takes as long as the convolutions themselves. Does nothing where there is no glibc.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_THRESHOLD, 2**30)


def autocast(network: nn.Module, precision: Precision = "auto") -> AbstractContextManager[object]:
    """Mixed precision for ``network``: bf16, fp32, or whichever is faster here.

    That is bf16 where it is multiplied natively: on GPUs (from Ampere on), and on processors for networks without
    depthwise convolutions, which gain nothing from it there. Emulated bf16 is tens of times slower than fp32.
    """
    where = device().type
    if precision == "auto":
        if where == "cuda":
            faster = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
            faster = native and _is_dense(network)
        precision = "bf16" if faster else "fp32"
    return torch.autocast(where, torch.bfloat16, enabled=precision == "bf16")


def _is_dense(network: nn.Module) -> bool:
    return not any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())
