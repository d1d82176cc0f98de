"""How long the parts of a query take: processor time of one thread, so that other programs do not count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from cmpnas.retrieval.cascade import Cascade, Encoded, Found
from cmpnas.retrieval.index import GalleryIndex
from cmpnas.retrieval.planner import Times
from cmpnas.text.encoding import FineScorer, TextEncoder

_TEXTS, _GOES = 24, 4  # queries that a time is the median of, and goes at each
_CANDIDATES = (1, 3, 10, 30, 100, 300)  # of cascades that are timed
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


def ask(cascade: Cascade[list[str]], text: str) -> Found:
    """One query."""
    return cascade.search([text])


def asked(captions: Sequence[str], count: int = _TEXTS) -> list[str]:
    """Some captions, spread over all of them."""
    return [captions[place] for place in np.linspace(0, len(captions) - 1, min(count, len(captions))).astype(int)]


def measure_times(encoder: TextEncoder, index: GalleryIndex, fine: FineScorer, captions: Sequence[str]) -> Times:
    """The parts of a cascade's time, measured on texts of the search split."""
    texts, n = asked(captions), len(index)
    with one_thread():
        text = milliseconds(lambda text: encoder([text]), texts)
        vector = encoder(texts[:1])
        search = milliseconds(lambda _: index.search(vector, min(_TOP, n)), texts)
        counts = [count for count in _CANDIDATES if count <= n]
        cascades = [(k, milliseconds(partial(ask, Cascade(Encoded(encoder, index), fine, k)), texts)) for k in counts]
    return Times.fit(text, (n, search), cascades)
