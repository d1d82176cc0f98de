"""A TorchScript file as a gallery model."""

from __future__ import annotations

from pathlib import Path

import torch

from cmpnas.cost.module import count_module
from cmpnas.errors import DataError
from cmpnas.files import hash_file, hash_of
from cmpnas.gallery.frozen import FrozenModel, reason_of
from cmpnas.gallery.settings import TorchscriptSettings
from cmpnas.train.device import device


def open_torchscript(settings: TorchscriptSettings, path: Path, size: int) -> FrozenModel:
    """Open a model, in float32 whatever it was saved in; ``size`` is for settings that state none.

    Raises:
        DataError: the file is damaged, does not take pictures, or its cost is not known.
    """
    try:
        network = torch.jit.load(str(path), map_location=device()).float().eval()
        arguments = network.forward.schema.arguments[1:]
    except Exception as fault:  # torch raises many kinds for damaged files
        raise DataError(f"{path} is damaged or no TorchScript file ({reason_of(fault)}); save it again.") from None
    inputs = [argument.name for argument in arguments if not argument.has_default_value()]
    if len(inputs) != 1:
        names = ", ".join(inputs) or "none"
        raise DataError(
            f"the TorchScript model has {len(inputs)} inputs ({names}); save it with pictures as the only one."
        )
    side = settings.size or size
    image = torch.zeros(1, 3, side, side, device=device())
    return FrozenModel(settings, network, side, lambda: count_module(network, image), hash_of(hash_file(path)))
