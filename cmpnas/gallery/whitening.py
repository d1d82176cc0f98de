"""Whitening by what varies within a class: a projection in closed form."""

from __future__ import annotations

import numpy as np

from cmpnas.errors import RecipeError

_CHUNK = 16_384  # rows read at a time


def whitening(features: np.ndarray, labels: np.ndarray, dim: int, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """The linear map after which items of one class vary alike in all directions.

    What varies within a class is noise to retrieval. Its covariance, shrunk towards a multiple of the identity, is
    whitened away; of what is left the ``dim`` principal directions are kept (learned whitening, Mikolajczyk and Matas,
    ICCV 2007, with classes in place of matching pairs).

    Args:
        features: float ``(N, D)``, a memory map if it is large.
        labels: int ``(N,)`` in ``0..K-1``, each class present.
        dim: ``d``, directions that are kept.
        shrinkage: above 0 to 1; at 1 nothing is whitened and it is plain PCA.

    Returns:
        ``weight`` ``(d, D)`` and ``bias`` ``(d,)``, float64: ``features @ weight.T + bias`` has mean zero.

    Raises:
        RecipeError: there are fewer than ``dim`` directions, or no class has two pictures.
    """
    n, width = features.shape
    must_whiten(width, labels, dim)
    mean = features.mean(0, dtype=np.float64)
    sums, products = np.zeros((labels.max() + 1, width)), np.zeros((width, width))
    for start in range(0, n, _CHUNK):
        centred = features[start : start + _CHUNK].astype(np.float64) - mean
        np.add.at(sums, labels[start : start + _CHUNK], centred)
        products += centred.T @ centred
    within = (products - (sums / np.bincount(labels)[:, None]).T @ sums) / n
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / width * np.eye(width)
    variances, directions = np.linalg.eigh(within)
    white = directions / np.sqrt(variances)
    _, axes = np.linalg.eigh(white.T @ products @ white)
    weight = (white @ axes[:, ::-1][:, :dim]).T
    return weight, -weight @ mean


def must_whiten(width: int, labels: np.ndarray, dim: int) -> None:
    """Raise what `whitening` raises, of features that are still to be computed."""
    n = len(labels)
    if dim > min(n - 1, width):
        raise RecipeError(
            f"a whitening to {dim} numbers needs as many directions; {n:,} labelled pictures with {width} features "
            f"have {min(n - 1, width)}. Lower gallery.projection.dim, or gallery.embedding_dim of a fusion."
        )
    if np.bincount(labels).max() < 2:
        raise RecipeError(
            "a whitening needs to see what varies within a class, and every class has a single picture; leave "
            "gallery.projection out or take another gallery.mixer, or train on classes of several."
        )
