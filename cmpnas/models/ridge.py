"""The linear map of least squares between vectors of the same pictures, in closed form."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

_ROWS_AT_ONCE = 65_536


@torch.no_grad()
def fit_linear(layer: nn.Linear, source: np.ndarray, target: np.ndarray) -> None:
    """Set ``layer`` to the linear map of least squares from ``source`` ``(N, W)`` to ``target`` ``(N, D)``.

    Its ridge weighs as much as one average picture in each direction: nothing among a million, much among the
    hundreds that a small data set has.
    """
    means = [np.mean(side, axis=0, dtype=np.float64) for side in (source, target)]
    gram, product = np.zeros((source.shape[1],) * 2), np.zeros((source.shape[1], target.shape[1]))
    for start in range(0, len(source), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        x, y = source[rows] - means[0], target[rows] - means[1]
        gram += x.T @ x
        product += x.T @ y
    weight = np.linalg.solve(gram + np.trace(gram) / len(source) * np.eye(len(gram)), product)
    layer.weight.copy_(torch.from_numpy(weight.T))
    layer.bias.copy_(torch.from_numpy(means[1] - means[0] @ weight))
