"""What a torch model costs whose code is not ours: counted while it runs once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from cmpnas.errors import DataError

#: An operator of such a name that torch does not count must not count as nothing.
_MULTIPLIES = (
    "conv", "mm", "mv", "dot", "matmul", "linear", "einsum", "attention", "encoder_layer", "lstm", "gru", "rnn",
    "mkldnn",
)  # fmt: skip


class _Watch(TorchDispatchMode):
    """Notes the operators that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.uncounted: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func._overloadpacket
        name = str(packet)
        ours = func.namespace in ("aten", "prim", "prims")
        suspect = any(part in name for part in _MULTIPLIES) and "upsample" not in name
        if packet not in flop_registry and (suspect or not ours):
            self.uncounted.add(name)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def count_module(network: nn.Module, image: Tensor) -> int:
    """Multiply-adds of convolutions, matrix products and attention on one image ``(1, 3, S, S)``.

    Takes eager and TorchScript modules in eval mode.

    Raises:
        DataError: something in it multiplies that torch cannot count, or nothing does.
    """
    watch, counter = _Watch(), FlopCounterMode(display=False)
    with watch, counter:
        network(image)
    if watch.uncounted:
        raise DataError(f"{min(watch.uncounted)} in the model cannot be counted; state the model's mflops.")
    if counter.get_total_flops() == 0:
        raise DataError("the model multiplies nothing that can be counted; state its mflops.")
    return counter.get_total_flops() // 2  # torch counts two per multiply-add
