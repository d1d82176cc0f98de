"""Ranks of the relevant items, exact and in bounded memory.

Only the relevant items' ranks are ever needed (`metrics`), so no ranking is made: blocks of similarities are
sorted as plain numbers, and each relevant item looks up how many others are ahead of it. A gallery that does
not fit one block is gone through twice, for the relevant items' similarities and for the counting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from cmpnas.progress import track
from cmpnas.retrieval.relevance import NOBODY, Relevance
from cmpnas.retrieval.similarity import NOT_FOUND, Similarity

#: What happens to items of equal similarity. ``pessimistic``: those that are not relevant come first;
#: ``stable``: gallery order decides, as in a stable sort.
Ties = Literal["pessimistic", "stable"]

_GALLERY_AT_ONCE = 65_536
_BLOCK = 2**24  # similarities at once: 64 MiB
_PER_RELEVANT = 16  # times the memory of a similarity that is needed for each relevant item
NEVER = 2**62  # the rank of padding


@dataclass(frozen=True)
class Ranks:
    """Of some queries.

    Attributes:
        queries: int64 ``(B,)``.
        ranks: int64 ``(B, W)``, 1-based and ascending; of the best ``depth`` relevant items, padded with `NEVER`.
        counts: int64 ``(B,)``, how many relevant items there are in all.
        tied: int64 ``(B,)``, how many of those ranked share their similarity with one that is not relevant.
    """

    queries: np.ndarray
    ranks: np.ndarray
    counts: np.ndarray
    tied: np.ndarray


def rank_relevant(
    similarity: Similarity, relevance: Relevance, depth: int | None, ties: Ties = "pessimistic"
) -> Iterator[Ranks]:
    """Ranks of every query's best ``depth`` relevant items (None: of all), a block of queries at a time.

    Queries come in no particular order.
    """
    # Parts of equal size: a last one of a few columns would be multiplied by other instructions and round otherwise.
    total = similarity.shape[1]
    columns = -(-total // -(-total // _GALLERY_AT_ONCE))
    blocks = _blocks(relevance.width, columns)
    for queries in track(blocks, "rank", total=len(blocks)):
        yield _rank_block(similarity, queries, relevance, depth, ties, columns)


def _blocks(width: np.ndarray, columns: int) -> list[np.ndarray]:
    """Queries in blocks that fit, those with the fewest relevant items first."""
    order = np.argsort(width, kind="stable")
    blocks = []
    start = 0
    while start < len(order):
        # As many as fit, judged by the widest of as many as could ever fit.
        fitting = order[start : start + max(1, _BLOCK // columns)]
        blocks.append(fitting[: max(1, _BLOCK // (_PER_RELEVANT * max(1, int(width[fitting[-1]]))))])
        start += len(blocks[-1])
    return blocks


def _rank_block(
    similarity: Similarity, queries: np.ndarray, relevance: Relevance, depth: int | None, ties: Ties, columns: int
) -> Ranks:
    relevant, removed = relevance.padded(queries)
    total = similarity.shape[1]
    parts = [(first, min(first + columns, total)) for first in range(0, total, columns)]
    counts = (relevant != NOBODY).sum(1)
    if not counts.any():
        return Ranks(queries, np.full((len(queries), 1), NEVER), counts, counts)
    own, block = _similarities(similarity, queries, relevant, parts)
    # The most similar first, of equal ones in gallery order (which only the stable policy needs); padding last.
    best = np.argsort(-own, axis=1, kind="stable" if ties == "stable" else None)[:, :depth]
    own, place = np.take_along_axis(own, best, 1), np.take_along_axis(relevant, best, 1)
    ahead, tied = np.zeros(own.shape, np.int64), np.zeros(own.shape, bool)
    for first, last in parts:
        if len(parts) > 1:
            block = similarity.block(queries, first, last)
        for rows in (relevant, removed):
            row, column = np.nonzero((rows >= first) & (rows < last))
            block[row, rows[row, column] - first] = -np.inf
        unsorted = block.copy() if ties == "stable" else None
        block.sort(axis=1)
        found = torch.from_numpy(block), torch.from_numpy(np.ascontiguousarray(own))
        above = (last - first) - torch.searchsorted(*found, right=True).numpy()
        equal = (last - first) - torch.searchsorted(*found, right=False).numpy() - above
        equal[place == NOBODY] = 0
        tied |= (equal > 0) & (own > NOT_FOUND)
        if unsorted is not None:  # what an index did not find comes last, wherever in the gallery it stands
            equal = np.where(own > NOT_FOUND, _earlier(unsorted, own, place - first, equal), equal)
        ahead += above + equal
    ranks = ahead + np.arange(1, own.shape[1] + 1)
    return Ranks(queries, np.where(place == NOBODY, NEVER, ranks), counts, tied.sum(1))


def _similarities(
    similarity: Similarity, queries: np.ndarray, relevant: np.ndarray, parts: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of the relevant items, -inf where padded, and the last block looked at."""
    own = np.full(relevant.shape, -np.inf)
    for first, last in parts:
        row, column = np.nonzero((relevant >= first) & (relevant < last))
        if len(row):
            block = similarity.block(queries, first, last)
            own[row, column] = block[row, relevant[row, column] - first]
    return own.astype(block.dtype), block


def _earlier(block: np.ndarray, own: np.ndarray, place: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """How many of those equal to each relevant item stand before it in the gallery."""
    earlier = np.zeros(equal.shape, np.int64)
    columns = np.arange(block.shape[1])
    for j in range(equal.shape[1]):
        rows = np.flatnonzero(equal[:, j])
        same = block[rows] == own[rows, j, None]
        earlier[rows, j] = (same & (columns < place[rows, j, None])).sum(1)
    return earlier
