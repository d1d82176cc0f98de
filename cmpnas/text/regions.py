"""Regions of pictures: the cells of a feature map, or features that somebody else computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.cost.onnx import agreed_size, image_input, read_onnx
from cmpnas.data.items import Items
from cmpnas.errors import DataError, RecipeError, unknown
from cmpnas.files import whole
from cmpnas.gallery.onnx import open_session
from cmpnas.models.network import PictureNetwork, initialise
from cmpnas.progress import track
from cmpnas.space import load_space
from cmpnas.text.settings import EncoderRegions, OnnxRegions
from cmpnas.train.device import device

#: Float pictures ``(B, 3, S, S)`` in [-1, 1] to float regions ``(B, R, C)``.
Regioner = Callable[[Tensor], Tensor]
_BATCH = 64


class MapEncoder(nn.Module):
    """An image encoder without its embedding: ``(B, 3, S, S)`` to the cells of its last map, ``(B, R, C)``."""

    def __init__(self, settings: EncoderRegions, size: int) -> None:
        super().__init__()
        space = load_space(settings.space, size=size)
        layers = space.layers(space.named(settings.arch))[:-1]  # all but pooling and embedding
        stages = [layer.position.split(".")[0] for layer in layers]
        if settings.until is not None:
            if settings.until not in stages:
                raise RecipeError("regions.until: " + unknown("stage", settings.until, dict.fromkeys(stages)))
            layers = layers[: len(stages) - stages[::-1].index(settings.until)]
        self.network = PictureNetwork(layers)
        initialise(dict(self.network.named_parameters()))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels = layers[-1].cout

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).flatten(2).transpose(1, 2)


def open_map(settings: OnnxRegions, path: Path, size: int) -> Regioner:
    """A feature map of an ONNX model as regions; ``size`` is for a model that takes any.

    Raises:
        DataError: the file is damaged, takes no pictures, has no such tensor, or it is no map.
    """
    model = read_onnx(path)
    taken = image_input(model)
    side = agreed_size(taken, settings.size) if settings.size or taken.size else size
    session = open_session(path, settings.output)

    def regions(images: Tensor) -> Tensor:
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
        found = torch.from_numpy(session.run([settings.output], {taken.name: images.cpu().numpy()})[0])
        if found.ndim != 4:
            raise DataError(f"{settings.output!r} of {path} is {tuple(found.shape)}, not a feature map (B, C, H, W).")
        return F.adaptive_avg_pool2d(found, settings.grid).flatten(2).transpose(1, 2)

    return regions


@torch.inference_mode()
def save_regions(regioner: Regioner, items: Items, path: Path) -> None:
    """Write the regions of ``items`` in order: npy float16 ``(N, R, C)``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    where, saved, first = device(), None, 0
    with whole(path) as partial:
        for images in track(items.float_batches(_BATCH), "regions", total=-(-len(items) // _BATCH)):
            found = regioner(images.to(where)).cpu()
            if saved is None:
                shape = (len(items), *found.shape[1:])
                saved = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
            saved[first : first + len(found)] = found.numpy()
            first += len(found)
        if saved is None:
            raise DataError("there are no pictures to find regions in.")
        saved.flush()


def read_regions(rows: np.ndarray, indices: np.ndarray) -> Tensor:
    """Some rows of ``(N, R, C)``, in memory or on disk: float32 ``(B, R, C)``."""
    return torch.from_numpy(np.asarray(rows[indices], np.float32))
