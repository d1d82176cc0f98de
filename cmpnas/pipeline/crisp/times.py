"""How long the parts of a query take: processor time of one thread, so that other programs do not count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from cmpnas.retrieval.index import GalleryIndex
from cmpnas.retrieval.planner import Times
from cmpnas.text.encoding import FineScorer, TextEncoder

_TEXTS, _GOES = 24, 4  # queries that a time is the median of, and goes at each
_CALLS = (1, 10, 30, 100, 300)  # candidates of fine calls
_TOP = 10


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


def milliseconds(work: Callable[[str], object], texts: Sequence[str]) -> float:
    """Processor time of ``work`` on one text: the best of a few goes at each text, and the median over texts.

    What is slower than the best goes to other programs, which take the caches away (as Python's timeit reasons).
    """
    best = []
    for text in texts:
        spent = []
        for _ in range(_GOES):
            start = time.process_time()
            work(text)
            spent.append(time.process_time() - start)
        best.append(min(spent))
    return 1000 * statistics.median(best)


def _score(fine: FineScorer, rows: np.ndarray, text: str) -> np.ndarray:
    return fine([text], rows)


def asked(captions: Sequence[str], count: int = _TEXTS) -> list[str]:
    """Some captions, spread over all of them."""
    return [captions[place] for place in np.linspace(0, len(captions) - 1, min(count, len(captions))).astype(int)]


def measure_times(encoder: TextEncoder, index: GalleryIndex, fine: FineScorer, captions: Sequence[str]) -> Times:
    """The parts of a cascade's time, each measured alone on texts of the search split."""
    texts, n, rng = asked(captions), len(index), np.random.default_rng(0)
    with one_thread():
        text = milliseconds(lambda text: encoder([text]), texts)
        vector = encoder(texts[:1])
        search = milliseconds(lambda _: index.search(vector, min(_TOP, n)), texts)
        calls = []
        for count in (count for count in _CALLS if count <= n):
            rows = rng.choice(n, count, replace=False)[None]
            calls.append((count, milliseconds(partial(_score, fine, rows), texts)))
    if len(calls) < 2:
        calls = [(0, calls[0][1] / 2), calls[0]]  # a single picture: nothing to tell a call from a candidate by
    return Times.fit(text, (n, search), calls)
