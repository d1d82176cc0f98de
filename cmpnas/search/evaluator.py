"""The judge of the search: carve, calibrate, embed, search every gallery."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from cmpnas.data.items import Items, Protocol
from cmpnas.gallery.base import Embedded
from cmpnas.models.calibrate import calibrate
from cmpnas.models.supernet import Supernet
from cmpnas.retrieval import Scores, evaluate_retrieval
from cmpnas.search.records import PairScore, Record
from cmpnas.space import Arch
from cmpnas.train.device import device
from cmpnas.train.embed import embed

_BATCH = 128


class Evaluator:
    """Scores architectures of one supernet on the search split, against galleries embedded once.

    Args:
        pool: what the supernet learned from; ``calibration_images`` of it give the BatchNorm statistics.
        galleries: by name; the search gallery as each gallery option embedded it.
    """

    def __init__(
        self,
        supernet: Supernet,
        pool: Items,
        search: Protocol,
        galleries: Mapping[str, Embedded],
        *,
        metric: str,
        calibration_images: int,
    ) -> None:
        self.supernet, self.search, self.galleries, self.metric = supernet, search, galleries, metric
        self._pool, self._calibration_images = pool, calibration_images

    def __call__(self, n: int, arch: Arch) -> Record:
        """Evaluate ``arch`` with the supernet's weights, as record number ``n``."""
        return self.judge(n, arch, self.supernet.carve(arch))

    def judge(self, n: int, arch: Arch, network: nn.Module) -> Record:
        """Calibrate and score ``network``, which is of ``arch``, as record number ``n``."""
        calibrate_on(network, self._pool, self._calibration_images)
        query, gallery = embed(network, self.search.query), embed(network, self.search.gallery)
        against = {
            name: score_pair(query, known.gallery, self.search, [self.metric]) for name, known in self.galleries.items()
        }
        cost = self.supernet.space.cost(arch)
        return Record(
            n,
            arch,
            cost.mflops,
            cost.params_m,
            {name: PairScore(scores[self.metric], scores.interval(self.metric)) for name, scores in against.items()},
            score_pair(query, gallery, self.search, [self.metric])[self.metric],
            cost.latency_ms,
        )


def calibrate_on(network: nn.Module, pool: Items, images: int) -> nn.Module:
    """Re-estimate BatchNorm statistics on ``images`` pictures spread over ``pool``."""
    where = device()
    return calibrate(network, (batch.to(where) for batch in pool.sample_batches(_BATCH, images)))


def score_pair(query: np.ndarray, gallery: np.ndarray, task: Protocol, metrics: list[str]) -> Scores:
    """Scores of embeddings of ``task``; items of a query's own source are ignored."""
    sources = None
    if task.query.sources is not None and task.gallery.sources is not None:
        sources = (task.query.sources, task.gallery.sources)
    return evaluate_retrieval(query, gallery, task.query.labels, task.gallery.labels, metrics, sources)
