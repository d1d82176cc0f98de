"""The judge of the search: carve, calibrate, embed, search every gallery."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from cmpnas.data.items import Items, Protocol
from cmpnas.gallery.base import Indexed
from cmpnas.models.calibrate import calibrate
from cmpnas.models.supernet import Supernet
from cmpnas.retrieval.evaluate import Scores, score
from cmpnas.retrieval.relevance import Relevance
from cmpnas.retrieval.similarity import Cosine, Without
from cmpnas.search.records import PairScore, Record
from cmpnas.space import Arch
from cmpnas.train.device import device
from cmpnas.train.embed import embed

_BATCH = 128


class Evaluator:
    """Scores architectures of one supernet on the search split, against galleries embedded once.

    Args:
        pool: what the supernet learned from; ``calibration_images`` of it give the BatchNorm statistics.
        galleries: by name; the search gallery as each gallery option indexes it.
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
        keep: Callable[[int, np.ndarray], None] | None = None,
    ) -> None:
        self.supernet, self.search, self.galleries, self.metric = supernet, search, galleries, metric
        self._pool, self._calibration_images, self._keep = pool, calibration_images, keep

    def __call__(self, n: int, arch: Arch) -> Record:
        """Evaluate ``arch`` with the supernet's weights, as record number ``n``."""
        return self.judge(n, arch, self.supernet.carve(arch))

    def judge(self, n: int, arch: Arch, network: nn.Module) -> Record:
        """Calibrate and score ``network``, which is of ``arch``, as record number ``n``."""
        calibrate_on(network, self._pool, self._calibration_images)
        query, gallery = embed(network, self.search.query), embed(network, self.search.gallery)
        if self._keep is not None:
            self._keep(n, query)
        cost = self.supernet.space.cost(arch)
        return Record(
            n,
            arch,
            cost.mflops,
            cost.params_m,
            score_against(query, self.galleries, self.search, self.metric),
            score_pair(query, gallery, self.search, [self.metric])[self.metric],
            cost.latency_ms,
        )


def calibrate_on(network: nn.Module, pool: Items, images: int) -> nn.Module:
    """Re-estimate BatchNorm statistics on ``images`` pictures spread over ``pool``."""
    where = device()
    return calibrate(network, (batch.to(where) for batch in pool.sample_batches(_BATCH, images)))


def score_against(
    query: np.ndarray, galleries: Mapping[str, Indexed], task: Protocol, metric: str
) -> dict[str, PairScore]:
    """M(q, g) of query embeddings and every gallery."""
    against = {
        name: score_pair(query, known.gallery, task, [metric], known.rejected) for name, known in galleries.items()
    }
    return {name: PairScore(scores[metric], scores.interval(metric)) for name, scores in against.items()}


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
