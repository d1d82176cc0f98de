"""Embedding pictures with a finished network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cmpnas.data.items import Items
from cmpnas.progress import track
from cmpnas.train.device import device


@torch.inference_mode()
def embed(network: nn.Module, items: Items, *, batch_size: int = 256, what: str | None = None) -> np.ndarray:
    """Unit embeddings of ``items`` in order, float32 ``(N, D)``; ``network`` must be in eval mode.

    ``what`` names the progress bar; None shows none.
    """
    where = device()
    batches = items.float_batches(batch_size)
    if what is not None:
        batches = track(batches, what, total=-(-len(items) // batch_size))
    parts = [network(images.to(where)).float().cpu() for images in batches]
    return torch.nn.functional.normalize(torch.cat(parts)).numpy()
