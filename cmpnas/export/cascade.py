"""Both stages of a text run in onnxruntime: what answers a query on a device.

A query is a few words through small networks. In torch nearly all its time is calls of operators, so it is asked, and
timed, as a device would run it: on one thread, one text at a time and at its own length.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.export.graph import open_onnx_file, write_free_onnx
from cmpnas.export.pictures import UnitEncoder
from cmpnas.files import whole
from cmpnas.text.blocks import Gru, Words
from cmpnas.text.fine import FineModel
from cmpnas.text.tokeniser import PAD, Tokeniser

_CANDIDATES = 64  # scored at once: what stays in a processor's cache
_READ, _JUDGE = "read.onnx", "judge.onnx"


@dataclass(frozen=True)
class TextSession:
    """A network that reads texts one by one, each at its own length, or at the full one where it can read no other."""

    session: Any
    tokeniser: Tokeniser
    whole: bool

    @staticmethod
    def open(path: Path, tokeniser: Tokeniser) -> TextSession:
        """What `write_text` wrote.

        Raises:
            RunError: the file is damaged.
        """
        session = open_onnx_file(path, 1)
        return TextSession(session, tokeniser, isinstance(session.get_inputs()[0].shape[1], int))

    def read(self, text: str) -> np.ndarray:
        """What the network makes of one text; words come first on axis 1, as many as there are."""
        ids = self.tokeniser.encode([text])
        length = max(1, int(np.count_nonzero(ids != PAD)))
        found: np.ndarray = self.session.run(None, {"ids": ids if self.whole else ids[:, :length]})[0]
        return found[:, :length] if found.ndim == 3 else found

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of a coarse encoder: float32 ``(Q, D)``."""
        return np.concatenate([self.read(text) for text in texts])


@dataclass(frozen=True)
class FineSession:
    """The fine model over the pictures that `store_regions` made ready.

    Attributes:
        words: how it reads a text.
        judge: its scores of candidates.
        stored: float16 ``(N, R, D)``, in memory or on disk.
    """

    words: TextSession
    judge: Any
    stored: np.ndarray

    @staticmethod
    def open(folder: Path, tokeniser: Tokeniser, stored: np.ndarray) -> FineSession:
        """What `write_fine` wrote.

        Raises:
            RunError: a file is damaged.
        """
        return FineSession(TextSession.open(folder / _READ, tokeniser), open_onnx_file(folder / _JUDGE, 1), stored)

    def __call__(self, texts: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """Scores of each text's own candidates, rows int64 ``(Q, K)``: float32 ``(Q, K)``."""
        chunks = [[own[first : first + _CANDIDATES] for first in range(0, len(own), _CANDIDATES)] for own in rows]
        return np.stack([self._scores(text, own) for text, own in zip(texts, chunks, strict=True)])

    def scan(self, texts: Sequence[str]) -> np.ndarray:
        """Scores of every text against every picture: float32 ``(Q, N)``."""
        n = len(self.stored)
        table = np.empty((len(texts), n), np.float32)
        every = [slice(first, first + _CANDIDATES) for first in range(0, n, _CANDIDATES)]
        for scores, text in zip(table, texts, strict=True):
            scores[:] = self._scores(text, every)
        return table

    def _scores(self, text: str, chunks: Sequence[np.ndarray] | Sequence[slice]) -> np.ndarray:
        words = self.words.read(text)
        given = ({"words": words, "regions": self.stored[rows]} for rows in chunks)
        return np.concatenate([self.judge.run(None, each)[0] for each in given])


def write_text(network: nn.Module, tokens: int, path: Path) -> None:
    """Write a finished text encoder, ids int64 ``(1, L)`` to a unit vector; ``L`` is at most ``tokens``."""
    _write_reader(UnitEncoder(network), tokens, path)


def write_fine(fine: FineModel, tokens: int, regions: int, folder: Path) -> None:
    """Write how ``fine`` reads texts, and how it judges pictures of so many ``regions``: a folder, whole or not."""
    with whole(folder) as partial:
        partial.mkdir(parents=True, exist_ok=True)
        _write_reader(_Reading(fine), tokens, partial / _READ)
        words, pictures = np.ones((1, 2, fine.dim), np.float32), np.ones((3, regions, fine.dim), np.float16)
        examples: dict[str, np.ndarray] = {"words": words, "regions": pictures}
        free = {"words": {1: ("words", 1, tokens)}, "regions": {0: ("candidates", 1, _CANDIDATES)}}
        write_free_onnx(copy.deepcopy(_Judging(fine)).cpu(), examples, free, partial / _JUDGE)


def _write_reader(reader: nn.Module, tokens: int, path: Path) -> None:
    # torch exports a GRU for texts of one length alone; padding changes none of its words.
    fixed = any(isinstance(module, Gru) for module in reader.modules())
    ids = np.full((1, tokens if fixed else 2), PAD + 2, np.int64)
    free: dict[str, dict[int, tuple[str, int, int]]] = {} if fixed else {"ids": {1: ("words", 1, tokens)}}
    write_free_onnx(copy.deepcopy(reader).cpu(), {"ids": ids}, free, path)


class _Reading(nn.Module):
    """How the fine model reads one text: ids ``(1, L)`` to ``(1, L, D)``."""

    def __init__(self, fine: FineModel) -> None:
        super().__init__()
        self.fine = fine

    def forward(self, ids: Tensor) -> Tensor:
        return self.fine.words(ids).vectors


class _Judging(nn.Module):
    """Scores ``(K,)`` of one text, words ``(1, L, D)``, and candidates, float16 ``(K, R, D)``."""

    def __init__(self, fine: FineModel) -> None:
        super().__init__()
        self.fine = fine

    def forward(self, words: Tensor, regions: Tensor) -> Tensor:
        there = torch.ones(words.shape[:2], dtype=torch.bool)
        return self.fine(Words(words, there), regions[None].float())[0]
