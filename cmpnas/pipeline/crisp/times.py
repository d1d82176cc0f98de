"""How long the parts of a query take: processor time of one thread, so that other programs do not count."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from cmpnas.export.cascade import FineSession, TextSession
from cmpnas.retrieval.cascade import Cascade, Encoded, Found
from cmpnas.retrieval.index import GalleryIndex
from cmpnas.retrieval.planner import Times

_TEXTS, _GOES = 24, 4  # queries that a time is the median of, and goes at each
_CANDIDATES = (1, 3, 10, 30, 100, 300)  # of cascades that are timed
_TOP = 10

#: Something done with one text, and the texts that it is timed on.
Work = tuple[Callable[[str], object], Sequence[str]]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and faiss work with one thread, as a small device would."""
    import faiss

    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])


def milliseconds(works: Mapping[str, Work]) -> dict[str, float]:
    """Processor time of each work on one text: the best of a few goes at each text, and the median over texts.

    What is slower than the best goes to other programs, which take the caches away (as Python's timeit reasons). All
    works take turns, so that whatever slows the machine down for a while slows all of them.
    """
    best = {name: [math.inf] * len(texts) for name, (_, texts) in works.items()}
    for _ in range(_GOES):
        for name, (work, texts) in works.items():
            for place, text in enumerate(texts):
                start = time.process_time()
                work(text)
                best[name][place] = min(best[name][place], time.process_time() - start)
    return {name: 1000 * statistics.median(spent) for name, spent in best.items()}


def ask(cascade: Cascade[list[str]], text: str) -> Found:
    """One query."""
    return cascade.search([text])


def asked(captions: Sequence[str], count: int = _TEXTS) -> list[str]:
    """Some captions, spread over all of them."""
    return [captions[place] for place in np.linspace(0, len(captions) - 1, min(count, len(captions))).astype(int)]


@dataclass(frozen=True)
class Parts:
    """What of a cascade is timed on the search split: encoding, a search of the index, and whole cascades."""

    encoder: TextSession
    index: GalleryIndex
    fine: FineSession
    texts: Sequence[str]

    def works(self) -> dict[str, Work]:
        """To be timed by `milliseconds`."""
        vector, n = self.encoder(self.texts[:1]), len(self.index)
        first = Encoded(self.encoder, self.index)
        works: dict[str, Callable[[str], object]] = {
            "part text": lambda text: self.encoder([text]),
            "part search": lambda _: self.index.search(vector, min(_TOP, n)),
        }
        works |= {f"part {k}": partial(ask, Cascade(first, self.fine, k, weight=1.0)) for k in self._counts}
        return {name: (work, self.texts) for name, work in works.items()}

    def times(self, taken: Mapping[str, float]) -> Times:
        """What `milliseconds` took, as the times of any cascade."""
        cascades = [(k, taken[f"part {k}"]) for k in self._counts]
        return Times.fit(taken["part text"], (len(self.index), taken["part search"]), cascades)

    @property
    def _counts(self) -> list[int]:
        return [count for count in _CANDIDATES if count <= len(self.index)]
