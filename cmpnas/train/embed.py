"""Embedding pictures with a finished network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.data.items import Items
from cmpnas.progress import track
from cmpnas.train.device import device, keep_freed_memory


def embed(
    network: nn.Module,
    items: Items,
    *,
    rows: np.ndarray | None = None,
    batch_size: int = 256,
    what: str | None = None,
) -> np.ndarray:
    """Unit embeddings of ``items`` in order, or of some ``rows``, float32 ``(N, D)``; ``network`` must be in eval mode.

    ``what`` names the progress bar; None shows none.
    """
    where = device()
    batches = items.float_batches(batch_size, rows)
    if what is not None:
        batches = track(batches, what, total=-(-len(items if rows is None else rows) // batch_size))
    return embed_batches(network, (images.to(where) for images in batches)).numpy()


@torch.inference_mode()
def embed_batches(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Unit embeddings of float pictures in batches, float32 ``(N, D)``, or ``(A, N, D)`` where ``network`` gives
    those of ``A`` architectures."""
    keep_freed_memory()
    parts = [network(images).float().cpu() for images in batches]
    vectors = torch.cat(parts, dim=-2)
    parts.clear()  # of a large gallery one copy is enough
    return torch.nn.functional.normalize(vectors, dim=-1, out=vectors)
