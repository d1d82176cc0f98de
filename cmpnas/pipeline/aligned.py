"""Indexes taken into the language that one finished query network really speaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from cmpnas.gallery.base import Indexed
from cmpnas.gallery.ensemble import combine
from cmpnas.gallery.transform import Transform
from cmpnas.models.network import Network
from cmpnas.models.ridge import fit_near_identity
from cmpnas.pipeline.stages import Stages
from cmpnas.train.device import device
from cmpnas.train.embed import embed

#: An index as its gallery option made it; aligned to one network; and joined by that network's own vectors.
Kind = Literal["heterogeneous", "aligned", "joined"]
_PICTURES = 100_000  # at most: hundreds for each number of a vector


def align(stages: Stages, network: Network) -> Transform:
    """The linear map from what the anchor says of pictures to what a finished query network says of them.

    A small network does not say all that it was taught; along what it cannot see, the stored vectors of the gallery
    differ for no reason that a query could give. Least squares on pictures of the pool, without labels or pictures of
    the gallery; it is applied to an index once and costs a query nothing. The other way round than `MappedGallery`:
    it serves this network alone (forward transformation, Ramanujan et al., CVPR 2022, here linear and after training).
    """
    pool, dim = stages.splits.pool, stages.gallery.embedding_dim
    rows = np.sort(pool.sample(_PICTURES))
    said = embed(network, pool, rows=rows, what="align the index")
    transform = Transform("linear", dim, dim)
    fit_near_identity(transform.enter, stages.embedded.pool[rows], said)
    return transform.to(device()).eval()


def join(aligned: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Unit means of what an aligned index stores of pictures and what the query network says of them, ``(N, D)`` each.

    The gallery model knows more, the network says it as its queries do: an ensemble (Linial et al., WACV 2024) whose
    second member costs a picture of the index what a query costs.
    """
    return combine({"index": aligned, "query network": own})[0]


def indexes_for(known: Indexed, transform: Transform, own: np.ndarray) -> dict[Kind, Indexed]:
    """What one network can be asked in: the index of a gallery option as it is, aligned, and joined.

    Args:
        transform: as `align` makes it.
        own: float32 ``(N, D)``, the network's vectors of the pictures in the index.
    """
    aligned = transform.apply_to(known.gallery)
    return {
        "heterogeneous": known,
        "aligned": replace(known, gallery=aligned),
        "joined": replace(known, gallery=join(aligned, own)),
    }
