"""The fine model over the pictures of a split: ready for single queries, and its table of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.export.cascade import FineSession, write_fine
from cmpnas.files import hash_of, whole
from cmpnas.pipeline.crisp.stages import TextStages
from cmpnas.pipeline.once import once
from cmpnas.progress import track
from cmpnas.text.encoding import FineScorer, store_regions
from cmpnas.text.tokeniser import Tokeniser
from cmpnas.train.device import device

_AT_ONCE = {True: 1024, False: 16}  # texts scanned between two savings, on a GPU or not


def fine_session(stages: TextStages, split: str) -> FineSession:
    """The fine model over the pictures of ``split``, ready for single queries."""
    folder, stored = stages.run.index / f"fine.{stages.fine_key}", _stored(stages, split)
    if not folder.exists():
        write_fine(stages.fine, stages.tokeniser.max_tokens, stored.shape[1], folder)
    return FineSession.open(folder, _fine_tokeniser(stages), stored)


def _fine_tokeniser(stages: TextStages) -> Tokeniser:
    return stages.tokeniser.limited(max(stages.recipe.fine.text.vocabulary))


def _stored(stages: TextStages, split: str) -> np.ndarray:
    """What the fine model keeps of the pictures of ``split``, computed once: float16 ``(N, R, D)`` on disk."""
    path = stages.run.index / f"{split}.fine.npy"
    key = hash_of(stages.fine_key, stages.split_key(split))
    return once(path, key, lambda: store_regions(stages.fine, stages.regions(split), path))


def fine_table(stages: TextStages, split: str = "search") -> np.ndarray:
    """Fine scores of all captions and pictures of ``split``, computed once: float32 ``(C, N)`` on disk.

    A scan that was interrupted goes on: a caption whose last score is there is done.
    """
    path, pairs = stages.run.index / f"{split}.scores.npy", stages.pairs(split)
    key = hash_of(stages.fine_key, stages.split_key(split), pairs.captions)
    begun = path.with_name(f"{split}.scores.{key}.npy")

    def make() -> None:
        # A GPU likes many texts at once, a processor what stays in its cache.
        on_gpu = device().type != "cpu"
        scorer = (
            FineScorer(stages.fine, _fine_tokeniser(stages), _stored(stages, split))
            if on_gpu
            else fine_session(stages, split)
        )
        stages.say(f"fine: scoring {len(pairs.captions):,} captions against {len(pairs):,} pictures ({split})")
        with stages.run.timed(f"fine scores {split}"):
            table = _begun(begun, (len(pairs.captions), len(pairs)))
            todo = np.flatnonzero(np.isnan(table[:, -1]))
            parts = np.array_split(todo, -(-len(todo) // _AT_ONCE[on_gpu]) or 1)
            for some in track(parts, "fine scan", total=len(parts)):
                table[some] = scorer.scan([pairs.captions[row] for row in some])
            table.flush()
        begun.replace(path)

    return once(path, key, make)


def _begun(path: Path, shape: tuple[int, int]) -> np.memmap[Any, Any]:
    """A table of scores on disk, NaN where there are none yet: float32."""
    if not path.exists():
        with whole(path) as partial:
            table = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
            table[:] = np.nan
            table.flush()
    return np.lib.format.open_memmap(path, mode="r+")
