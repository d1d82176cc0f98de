"""A pretrained model of timm as a gallery model."""

from __future__ import annotations

import hashlib
from types import ModuleType

import torch
from torch import nn

from cmpnas.cost.module import count_module
from cmpnas.errors import DataError
from cmpnas.gallery.frozen import FrozenModel, reason_of
from cmpnas.gallery.settings import TimmSettings
from cmpnas.train.device import device


def require_timm() -> ModuleType:
    """The library.

    Raises:
        DataError: it cannot be imported.
    """
    try:
        import timm
    except Exception as fault:  # a torchvision of another build raises its own
        raise DataError(
            f"timm cannot be imported ({reason_of(fault)}); run: pip install -c constraints.txt -e '.[timm]'"
        ) from None
    return timm


def open_timm(settings: TimmSettings, size: int) -> FrozenModel:
    """Open a model without its classifier; ``size`` is for settings that state none.

    Raises:
        DataError: there is no such model, it does not take such pictures, or its cost is not known.
    """
    timm = require_timm()
    try:
        network = timm.create_model(settings.model, pretrained=True, num_classes=0).to(device()).eval()
    except Exception as fault:  # unknown names, no network, no weights
        raise DataError(f"timm cannot make {settings.model!r} ({reason_of(fault)}).") from None
    side, own = settings.size or size, network.pretrained_cfg
    image = torch.zeros(1, 3, side, side, device=device())
    return FrozenModel(
        settings, network, side, lambda: count_module(network, image), _hash_weights(network), own["mean"], own["std"]
    )


def _hash_weights(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, weights in network.state_dict().items():
        digest.update(name.encode() + weights.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
