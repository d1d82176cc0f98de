"""The linear map of least squares between vectors of the same pictures, in closed form."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

_ROWS_AT_ONCE = 65_536
_NEAR = 30  # average pictures in each direction, what staying near the identity weighs


@torch.no_grad()
def fit_linear(layer: nn.Linear, source: np.ndarray, target: np.ndarray) -> None:
    """Set ``layer`` to the linear map of least squares from ``source`` ``(N, W)`` to ``target`` ``(N, D)``.

    Its ridge weighs as much as one average picture in each direction: nothing among a million, much among the
    hundreds that a small data set has.
    """
    means = [np.mean(side, axis=0, dtype=np.float64) for side in (source, target)]
    gram, product = _products(source, target, *means)
    weight = np.linalg.solve(gram + _weighing(gram, source), product)
    layer.weight.copy_(torch.from_numpy(weight.T))
    layer.bias.copy_(torch.from_numpy(means[1] - means[0] @ weight))


@torch.no_grad()
def fit_near_identity(layer: nn.Linear, source: np.ndarray, target: np.ndarray) -> None:
    """Set ``layer`` to the map through the origin of least squares between ``(N, D)`` of one space.

    The ridge draws it to the multiple of the identity that fits best, so that among few pictures nothing turns.
    """
    gram, product = _products(source, target)
    ridge = _NEAR * _weighing(gram, source)
    weight = np.linalg.solve(gram + ridge, product + np.trace(product) / np.trace(gram) * ridge)
    layer.weight.copy_(torch.from_numpy(weight.T))
    layer.bias.zero_()


def _products(
    source: np.ndarray, target: np.ndarray, mean: np.ndarray | float = 0.0, target_mean: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over pictures of the products of ``source`` with itself and with ``target``, of what is beyond the means."""
    gram, product = np.zeros((source.shape[1],) * 2), np.zeros((source.shape[1], target.shape[1]))
    for start in range(0, len(source), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        x, y = source[rows].astype(np.float64) - mean, target[rows] - target_mean
        gram += x.T @ x
        product += x.T @ y
    return gram, product


def _weighing(gram: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A ridge that weighs as much as one average picture in each direction."""
    ridge: np.ndarray = np.trace(gram) / len(source) * np.eye(len(gram))
    return ridge
