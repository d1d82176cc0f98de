"""A finished model that the user brings, as a gallery option."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.data.items import Items
from cmpnas.data.load import data_file
from cmpnas.data.settings import DataSettings
from cmpnas.errors import DataError
from cmpnas.gallery.frozen import FrozenModel
from cmpnas.gallery.settings import AnyBrought, OnnxSettings, TimmSettings
from cmpnas.train.embed import embed

BATCH = 64  # pictures of a large model's size


@dataclass(frozen=True)
class BroughtGallery:
    """A frozen model, with the classifier of its projection if it has one."""

    settings: AnyBrought
    mflops: float
    embedding_dim: int
    network: nn.Module
    classifier: np.ndarray | None

    @torch.no_grad()  # not inference mode: a loss keeps these for its backward pass
    def encoder(self, images: Tensor) -> Tensor:
        """Unit embeddings of ``(B, 3, S, S)`` float images, on their device: float32 ``(B, D)``."""
        return F.normalize(self.network(images))

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items``, float32 ``(N, D)``."""
        return embed(self.network, items, batch_size=BATCH, what=what)


def open_model(
    settings: AnyBrought, data: DataSettings, given: str | None, map_output: str | None = None
) -> FrozenModel:
    """Open what the settings name; ``given`` is the data folder, ``map_output`` a feature map in an ONNX graph.

    Raises:
        DataError: it is missing, damaged, or no encoder of pictures.
    """
    from cmpnas.gallery.onnx import open_onnx
    from cmpnas.gallery.timm import open_timm
    from cmpnas.gallery.torchscript import open_torchscript

    try:
        if isinstance(settings, TimmSettings):
            return open_timm(settings, data.size)
        path = data_file(data, given, settings.file)
        if isinstance(settings, OnnxSettings):
            return open_onnx(settings, path, data.size, map_output)
        return open_torchscript(settings, path, data.size)
    except DataError as fault:
        raise DataError(f"gallery {settings.name!r}: {fault}") from None


def as_it_is(settings: AnyBrought, model: FrozenModel) -> BroughtGallery:
    """The model's own features as embeddings."""
    return BroughtGallery(settings, model.mflops, model.width, model, None)
