"""Indexes taken into the language that one finished query network really speaks."""

from __future__ import annotations

import numpy as np

from cmpnas.gallery.transform import Transform
from cmpnas.models.network import Network
from cmpnas.models.ridge import fit_near_identity
from cmpnas.pipeline.stages import Stages
from cmpnas.train.device import device
from cmpnas.train.embed import embed

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
