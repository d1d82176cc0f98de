"""The anchor, looking at each gallery image several times: the mean of what it says of a few views.

An image is indexed once and searched a million times, so what a query network cannot afford, its gallery can. The views
are the same for every image, so a vector depends on its image alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.data.augment import augment, evenly
from cmpnas.data.items import Items
from cmpnas.errors import DataError
from cmpnas.gallery.base import Gallery
from cmpnas.gallery.option_settings import ViewsSettings
from cmpnas.progress import track
from cmpnas.train.device import device
from cmpnas.train.embed import embed_batches

_BATCH = 64  # pictures, views among them


@dataclass(frozen=True)
class ViewsGallery:
    """A gallery option whose embeddings are the unit mean of the anchor's, of each image and of views of it."""

    settings: ViewsSettings
    model: Gallery

    @property
    def mflops(self) -> float:
        """Of the image itself and of every view."""
        return (1 + self.settings.views) * self.model.mflops

    @property
    def embedding_dim(self) -> int:
        return self.model.embedding_dim

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items`` in the anchor's space, float32 ``(N, D)``.

        Raises:
            DataError: the anchor is of saved embeddings.
        """
        if self.model.encoder is None:
            raise DataError(f"gallery {self.settings.name!r} is of views of pictures; saved embeddings have none.")
        return embed_views(self.model.encoder, self.settings, items, what)


def embed_views(
    encode: Callable[[Tensor], Tensor], settings: ViewsSettings, items: Items, what: str | None = None
) -> np.ndarray:
    """Unit means of what ``encode`` says, unit vectors, of ``items`` and of their views, float32 ``(N, D)``.

    ``what`` names the progress bar; None shows none.
    """
    size = max(1, _BATCH // (1 + settings.views))
    batches = items.float_batches(size)
    if what is not None:
        batches = track(batches, what, total=-(-len(items) // size))
    where = device()
    return embed_batches(Views(encode, settings).to(where), (images.to(where) for images in batches)).numpy()


class Views(nn.Module):
    """Float images ``(B, 3, S, S)`` to the mean of what ``encode`` says, unit ``(B, D)``, of each and of its views."""

    def __init__(self, encode: Callable[[Tensor], Tensor], settings: ViewsSettings) -> None:
        super().__init__()
        self.spread, self.encode = Spread(settings), encode

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(self.spread(images)).unflatten(0, (len(images), -1)).mean(1)


class Spread(nn.Module):
    """Float images ``(B, 3, S, S)`` to ``(B x (1 + views), 3, S, S)``: each image, and the views of it behind it."""

    chance: Tensor

    def __init__(self, settings: ViewsSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("chance", evenly(settings.views))

    def forward(self, images: Tensor) -> Tensor:
        views = [augment(images, self.settings.augment, row.expand(images.shape[0], -1)) for row in self.chance]
        return torch.stack([images, *views], 1).flatten(0, 1)
