"""Finished models at work on many texts at once: to vectors, and to scores of all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cmpnas.text.blocks import Words
from cmpnas.text.fine import FineModel
from cmpnas.text.regions import read_regions
from cmpnas.text.tokeniser import Tokeniser, trimmed

_TEXTS, _PICTURES = 256, 256  # encoded at once
_QUERIES, _SHARED = 4, 64  # queries that look at the same pictures


@dataclass(frozen=True)
class TextEncoder:
    """A coarse text encoder with its tokeniser."""

    network: nn.Module
    tokeniser: Tokeniser

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors: float32 ``(Q, D)``."""
        ids, parts, where = torch.from_numpy(self.tokeniser.encode(texts)), [], _where(self.network)
        for some in ids.split(_TEXTS):
            parts.append(F.normalize(self.network(trimmed(some).to(where)).float()).cpu())
        return torch.cat(parts).numpy()


@torch.inference_mode()
def store_regions(fine: FineModel, regions: np.ndarray, path: Path) -> None:
    """Save what the fine model keeps of pictures: float16 ``(N, R, D)`` of regions ``(N, R, C)``."""
    shape = len(regions), regions.shape[1], fine.dim
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for first in range(0, len(regions), _PICTURES):
        rows = np.arange(first, min(first + _PICTURES, len(regions)))
        stored[rows] = fine.regions(read_regions(regions, rows).to(_where(fine))).cpu().numpy()
    stored.flush()


@dataclass(frozen=True)
class FineScorer:
    """The fine model over the pictures that `store_regions` made ready.

    Attributes:
        stored: float16 or float32 ``(N, R, D)``.
    """

    fine: FineModel
    tokeniser: Tokeniser
    stored: np.ndarray

    @torch.inference_mode()
    def scan(self, texts: Sequence[str]) -> np.ndarray:
        """Scores of every text against every picture: float32 ``(Q, N)``."""
        words, table = self._words(texts), np.empty((len(texts), len(self.stored)), np.float32)
        for first in range(0, len(self.stored), _SHARED):
            last = min(first + _SHARED, len(self.stored))
            pictures = read_regions(self.stored, np.arange(first, last)).to(_where(self.fine))[None]
            for query in range(0, len(texts), _QUERIES):
                some = Words(*(part[query : query + _QUERIES] for part in words))
                scores = self.fine(some, pictures.expand(len(some.there), -1, -1, -1))
                table[query : query + _QUERIES, first:last] = scores.float().cpu().numpy()
        return table

    def _words(self, texts: Sequence[str]) -> Words:
        ids = trimmed(torch.from_numpy(self.tokeniser.encode(texts)))
        parts = [self.fine.words(some.to(_where(self.fine))) for some in ids.split(_TEXTS)]
        return Words(torch.cat([part.vectors for part in parts]), torch.cat([part.there for part in parts]))


def _where(module: nn.Module) -> torch.device:
    """Where a module is: asking it is quicker, for a single query, than asking whether there are GPUs."""
    return next(module.parameters()).device
