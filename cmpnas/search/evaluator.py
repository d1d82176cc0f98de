"""The judge of the search: carve, calibrate, embed, search every gallery."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.data.items import Items, Protocol
from cmpnas.errors import DataError
from cmpnas.gallery.base import Indexed
from cmpnas.models.calibrate import calibrate
from cmpnas.models.supernet import Supernet
from cmpnas.models.together import Together, by_beginning
from cmpnas.retrieval.evaluate import Scores, score
from cmpnas.retrieval.relevance import Relevance
from cmpnas.retrieval.similarity import Cosine, Without
from cmpnas.search.indexed import IndexedTask
from cmpnas.search.records import PairScore, Proposal, Record
from cmpnas.space import Arch
from cmpnas.train.device import device, keep_freed_memory
from cmpnas.train.embed import embed_batches

_CALIBRATE, _EMBED = 128, 64  # pictures at once
_TOGETHER = 16  # architectures at most; what a crash can cost
_MEMORY = 2**30  # bytes of pictures that are kept as the networks take them, and of embeddings made together


class Evaluator:
    """Scores architectures of one supernet on the search split, against galleries embedded once.

    What does not depend on the architecture is computed once: who is relevant to whom, the galleries' unit vectors,
    and the pictures as networks take them where they fit in a gigabyte. Architectures given together share the work
    of equal beginnings; their records are to the last bit those of each alone.

    Args:
        pool: what the supernet learned from; ``calibration_images`` of it give the BatchNorm statistics.
        galleries: by name; the search gallery as each gallery option indexes it.
        homogeneous: give records M(q, q) too, for which each architecture embeds the search gallery.
        keep: called with the number of a record and its query embeddings, for gallery options to come.
    """

    def __init__(
        self,
        supernet: Supernet,
        pool: Items,
        search: Protocol,
        galleries: Mapping[str, Indexed],
        *,
        metric: str,
        calibration_images: int,
        homogeneous: bool = False,
        keep: Callable[[int, np.ndarray], None] | None = None,
    ) -> None:
        keep_freed_memory()
        self.supernet, self.search, self.metric = supernet, search, metric
        self._indexed = IndexedTask(search, galleries, metric)
        self._homogeneous, self._keep = homogeneous, keep
        self._calibration = _kept(
            lambda: pool.sample_batches(_CALIBRATE, calibration_images),
            min(calibration_images, len(pool)),
            supernet.space.size,
        )
        self._query, self._gallery = self._batches(search.query), self._batches(search.gallery)

    def __call__(self, n: int, arch: Arch) -> Record:
        """Evaluate ``arch`` with the supernet's weights, as record number ``n``."""
        return next(self.together([Proposal(n, arch)]))[0]

    def together(self, plan: Sequence[Proposal]) -> Iterator[list[Record]]:
        """Evaluate proposals with the supernet's weights, as many at a time as fit.

        Those of a common beginning come together, so records do not come in the order of numbers.
        """
        for part, networks in self._calibrated([proposal.arch for proposal in plan], self._homogeneous):
            yield self._evaluate([plan[index] for index in part], networks)

    def homogeneous(self, archs: Sequence[Arch]) -> Iterator[tuple[Arch, float]]:
        """M(q, q) of architectures with the supernet's weights, as many at a time as fit."""
        for part, networks in self._calibrated(archs, True):
            queries = self._embedded(networks, self._query, len(part))
            own = self._own(networks, queries)
            yield from zip((archs[index] for index in part), own, strict=True)

    def _calibrated(self, archs: Sequence[Arch], galleries: bool) -> Iterator[tuple[list[int], Together]]:
        """As many of ``archs`` at a time as fit, if they embed their ``galleries`` too: their places and networks."""
        items = len(self.search.query) + galleries * len(self.search.gallery)
        width = self.supernet.space.embedding_dim * 4 * items
        at_once = min(_TOGETHER, max(1, _MEMORY // width))
        order = by_beginning(self.supernet, archs)
        for start in range(0, len(order), at_once):
            part = order[start : start + at_once]
            networks = Together(self.supernet, [archs[index] for index in part])
            calibrate(networks, self._calibration())
            yield part, networks

    def judge(self, n: int, arch: Arch, network: nn.Module) -> Record:
        """Calibrate and score ``network``, which is of ``arch``, as record number ``n``."""
        calibrate(network, self._calibration())
        return self._judge([Proposal(n, arch)], network, self._embedded(network, self._query, 1))[0]

    def _evaluate(self, plan: Sequence[Proposal], networks: Together) -> list[Record]:
        """Records of a few architectures, given their calibrated networks."""
        return self._judge(plan, networks, self._embedded(networks, self._query, len(plan)))

    def _judge(self, plan: Sequence[Proposal], network: nn.Module, queries: np.ndarray) -> list[Record]:
        """Records of architectures from the embeddings of all queries, ``(A, Q, D)``, and ``network``, which gives
        those of the gallery."""
        own = self._own(network, queries) if self._homogeneous else [math.nan] * len(plan)
        records = []
        for proposal, query, homogeneous in zip(plan, queries, own, strict=True):
            if self._keep is not None:
                self._keep(proposal.n, query)
            records.append(self._record(proposal, self._indexed.against(query), homogeneous))
        return records

    def _own(self, network: nn.Module, queries: np.ndarray) -> list[float]:
        """M(q, q) from the embeddings of all queries, ``(A, Q, D)``, and ``network``, which gives the gallery's."""
        galleries = self._embedded(network, self._gallery, len(queries))
        similarities = (Cosine(query, gallery) for query, gallery in zip(queries, galleries, strict=True))
        return [self._indexed.score(similarity)[self.metric] for similarity in similarities]

    def _record(
        self, proposal: Proposal, against: Mapping[str, Scores], homogeneous: float, raced: int | None = None
    ) -> Record:
        cost = self.supernet.space.cost(proposal.arch)
        galleries = {name: PairScore.of(scores, self.metric) for name, scores in against.items()}
        return Record(
            proposal.n, proposal.arch, cost.mflops, cost.params_m, galleries, homogeneous, cost.latency_ms, raced
        )

    def _batches(self, items: Items, rows: np.ndarray | None = None) -> Callable[[], Iterable[Tensor]]:
        """Pictures to embed, all or some, as often as they are asked for."""
        count = len(items) if rows is None else len(rows)
        return _kept(lambda: items.float_batches(_EMBED, rows), count, self.supernet.space.size)

    def _embedded(self, network: nn.Module, batches: Callable[[], Iterable[Tensor]], count: int) -> np.ndarray:
        """Pictures by ``count`` architectures: ``(A, N, D)``."""
        vectors = embed_batches(network, batches())
        return vectors.reshape(count, -1, vectors.shape[-1]).numpy()


def _kept(read: Callable[[], Iterable[Tensor]], count: int, size: int) -> Callable[[], Iterable[Tensor]]:
    """``read``, or copies of its batches as networks take them, where so many pictures of this size fit in a third of
    the memory for them."""
    where = device()
    if count * 3 * size * size * 4 > _MEMORY // 3:
        return lambda: (batch.to(where) for batch in read())
    batches: list[Tensor] = []

    def again() -> Iterator[Tensor]:
        if not batches:
            batches.extend(batch.to(where).contiguous(memory_format=torch.channels_last) for batch in read())
        return (batch.clone() for batch in batches)  # a network may write over its input

    return again


def calibrate_on(network: nn.Module, pool: Items, images: int) -> nn.Module:
    """Re-estimate BatchNorm statistics on ``images`` pictures spread over ``pool``."""
    where = device()
    return calibrate(network, (batch.to(where) for batch in pool.sample_batches(_CALIBRATE, images)))


def first_queries(task: Protocol, share: float) -> np.ndarray:
    """Queries that tell whether an architecture is evaluated to the end: the same rows every time, mixed, in order.

    Raises:
        DataError: there are too few queries that could find something.
    """
    known = np.flatnonzero(np.isin(task.query.labels, task.gallery.labels))
    count = max(1, round(share * len(task.query)))
    if count >= len(task.query) or count > len(known):
        raise DataError(
            f"search.racing of {share:g} stops architectures after {count} of {len(task.query)} queries, of which "
            f"{len(known)} have something to find; set another share, or no racing."
        )
    return np.sort(np.random.default_rng(0).permutation(known)[:count])


def score_pair(
    query: np.ndarray, gallery: np.ndarray, task: Protocol, metrics: list[str], rejected: np.ndarray | None = None
) -> Scores:
    """Scores of embeddings of ``task``; items of a query's own source are ignored.

    Rows of the gallery that are ``rejected`` come last in every ranking, so that scores with and without rejection are
    of one task: a query loses what it can no longer find.
    """
    cosine = Cosine(query, gallery)
    relevance = Relevance.of_labels(task.query.labels, task.gallery.labels, task.own_sources, *cosine.shape)
    return score(cosine if rejected is None else Without(cosine, rejected), relevance, metrics)
