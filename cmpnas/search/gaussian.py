"""Regression by a Gaussian process that finds out which of its inputs matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

_FIT_ON = 300  # points that the hyperparameters are fitted on, at most
_STEPS, _STEPS_AGAIN = 30, 8  # of the optimiser, from the prior and from the last fit
#: Priors, as mean and deviation of the logarithm, with targets scaled to a variance of 1.
_LENGTH, _SIGNAL, _NOISE = (math.sqrt(2), 1.0), (0.0, 1.0), (math.log(0.02), 0.7)


class GaussianProcess:
    """A linear function of ``trend``, plus a smooth function of ``features``, plus noise.

    The kernel is ``trend . trend' + signal * exp(-sum over groups g of (relevance_g |x_g - x'_g|)^2 / 2)``. Signal,
    noise and relevances are the most probable ones (Rasmussen and Williams 2006, algorithm 2.1 and section 5.4). The
    prior of a length, one over a relevance, grows with the square root of the number of groups, as Hvarfner et al.
    (ICML 2024) propose for many dimensions; it is tighter than theirs, as points here are few.

    Args:
        groups: for each feature the number of its group, from 0; features of a group should have a mean squared norm
            of 1 together.
    """

    def __init__(self, groups: Sequence[int]) -> None:
        self._groups = torch.tensor(groups)
        count = int(self._groups.max()) + 1
        relevance = -(_LENGTH[0] + math.log(count) / 2), _LENGTH[1]
        self._prior = torch.tensor([relevance] * count + [_SIGNAL, _NOISE], dtype=torch.float64).T
        #: Logarithms of relevances, signal and noise.
        self._log = self._prior[0].clone()
        self._steps = _STEPS

    def fit(self, features: np.ndarray, trend: np.ndarray, targets: np.ndarray, *, again: bool = True) -> None:
        """Learn from ``features`` ``(N, F)``, ``trend`` ``(N, T)`` and ``targets`` ``(N,)``, all float64.

        What the last fit found out is where this one starts; unless ``again``, signal, noise and relevances stay.
        """
        self._x, self._trend, y = (
            torch.from_numpy(np.ascontiguousarray(given)) for given in (features, trend, targets)
        )
        self._centre, self._scale = float(y.mean()), float(y.std(correction=0)) or 1.0
        y = (y[:, None] - self._centre) / self._scale
        if again:
            some = torch.linspace(0, len(y) - 1, min(len(y), _FIT_ON)).round().long()
            # To hundredths: an optimiser blows up what sums of another memory alignment differ by.
            self._log = self._most_probable(self._x[some], self._trend[some], y[some]).mul(100).round().div(100)
            self._steps = _STEPS_AGAIN
        self._root = self._factor(self._log, self._x, self._trend)
        self._white = torch.linalg.solve_triangular(self._root, y, upper=False)

    def predict(self, features: np.ndarray, trend: np.ndarray) -> Belief:
        """What the targets of other points are expected to be, and how surely."""
        return Belief(self, *(torch.from_numpy(np.ascontiguousarray(given)) for given in (features, trend)))

    def _most_probable(self, x: torch.Tensor, trend: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        log = self._log.clone().requires_grad_()
        optimiser = torch.optim.LBFGS([log], max_iter=self._steps, tolerance_change=1e-6, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            root = self._factor(log, x, trend)
            white = torch.linalg.solve_triangular(root, y, upper=False)
            unlikely = (white**2).sum() / 2 + root.diagonal().log().sum()
            total = unlikely + (((log - self._prior[0]) / self._prior[1]) ** 2).sum() / 2
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        return log.detach()

    def _factor(self, log: torch.Tensor, x: torch.Tensor, trend: torch.Tensor) -> torch.Tensor:
        """The Cholesky factor of the covariance of targets."""
        noise = torch.eye(len(x), dtype=x.dtype) * _within(log[-1]).exp()
        return torch.linalg.cholesky(self._kernel(log, x, trend, x, trend) + noise)

    def _kernel(
        self, log: torch.Tensor, x: torch.Tensor, trend: torch.Tensor, other: torch.Tensor, other_trend: torch.Tensor
    ) -> torch.Tensor:
        relevance = _within(log[:-2]).exp()[self._groups]
        a, b = x * relevance, other * relevance
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return trend @ other_trend.T + _within(log[-2]).exp() * torch.exp(-squared.clamp_min(0) / 2)


class Belief:
    """What a fitted process says of some points.

    Attributes:
        mean, deviation: float64 ``(N,)``, of the targets, noise included.
    """

    def __init__(self, process: GaussianProcess, x: torch.Tensor, trend: torch.Tensor) -> None:
        self._process, self._x, self._trend = process, x, trend
        cross = process._kernel(process._log, process._x, process._trend, x, trend)
        self._cross = torch.linalg.solve_triangular(process._root, cross, upper=False)
        self.mean = process._centre + process._scale * (self._cross.T @ process._white)[:, 0].numpy()
        signal, self._noise = (float(_within(log).exp()) for log in process._log[-2:])
        self._variance = signal + (trend * trend).sum(1) - (self._cross**2).sum(0)

    @property
    def deviation(self) -> np.ndarray:
        return self._process._scale * (self._variance.clamp_min(0) + self._noise).sqrt().numpy()

    def expect(self, index: int) -> None:
        """Take point ``index`` as observed at its mean, which leaves all means and makes its surroundings surer."""
        point, trend = self._x[index : index + 1], self._trend[index : index + 1]
        prior = self._process._kernel(self._process._log, point, trend, self._x, self._trend)[0]
        known = prior - self._cross[:, index] @ self._cross
        row = known / (self._variance[index].clamp_min(0) + self._noise).sqrt()
        self._cross = torch.cat([self._cross, row[None]])
        self._variance = self._variance - row**2


def _within(log: torch.Tensor) -> torch.Tensor:
    """Kept from what a line search may try and a factorisation cannot bear."""
    return log.clamp(-9, 5)
