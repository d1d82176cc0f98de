"""The area below a front and what an evaluation is expected to add, against a grid and against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmpnas.search.gaussian import GaussianProcess
from cmpnas.search.hypervolume import Front, growth

SPAN = (1.0, 20.0)


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return rng.normal(size=30), np.exp(rng.uniform(-0.2, 3.2, 30))


def by_grid(scores, mflops, floor):
    """The mean over log cost of the best score within it."""
    grid = np.linspace(*np.log(SPAN), 20_001)
    within = np.where(np.log(mflops)[:, None] <= grid, scores[:, None], floor)
    return np.maximum(within.max(0), floor).mean() - floor


def test_hypervolume_is_the_area(points):
    scores, mflops = points
    for count in (1, 5, 30):
        front = Front(scores[:count], mflops[:count], floor=-0.5, span=SPAN)
        assert front.hypervolume == pytest.approx(by_grid(scores[:count], mflops[:count], -0.5), abs=1e-3)


def test_growth_is_that_of_each_beginning(points):
    scores, mflops = points
    areas = growth(scores, mflops, floor=-0.5, span=SPAN)
    each = [Front(scores[:n], mflops[:n], floor=-0.5, span=SPAN).hypervolume for n in range(1, 31)]
    assert areas == pytest.approx(each)
    assert (np.diff(areas) >= 0).all()


def test_expected_gain_is_the_mean_gain(points):
    front = Front(*points, floor=-0.5, span=SPAN)
    rng = np.random.default_rng(1)
    for mean, deviation, cost in ((2.0, 0.3, 2.0), (0.0, 1.0, 8.0), (1.5, 0.01, 19.0), (3.0, 1.0, 25.0)):
        (said,) = front.expected_gain(np.array([mean]), np.array([deviation]), np.array([cost]))
        before, gains = front.hypervolume, []
        for score in rng.normal(mean, deviation, 4000):
            after = Front(*points, floor=-0.5, span=SPAN)
            after.add(score, cost)
            gains.append(after.hypervolume - before)
        assert said == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / 4000**0.5 + 1e-12)


@pytest.fixture(scope="module")
def process():
    """Fitted to a function of the first of three groups and of the trend."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    trend = np.stack([np.ones(60), rng.normal(size=60)], 1)
    gp = GaussianProcess([0, 0, 1, 2])
    gp.fit(x, trend, np.sin(x[:, 0]) + x[:, 1] + 0.5 * trend[:, 1] + 3)
    return gp, x, trend, rng


def test_process_predicts_and_finds_what_matters(process):
    gp, _, _, rng = process
    x, trend = rng.normal(size=(50, 4)), np.stack([np.ones(50), rng.normal(size=50)], 1)
    truth = np.sin(x[:, 0]) + x[:, 1] + 0.5 * trend[:, 1] + 3
    said = gp.predict(x, trend)
    assert np.sqrt(((said.mean - truth) ** 2).mean()) < 0.2 * truth.std()
    assert 0.3 < np.sqrt((((said.mean - truth) / said.deviation) ** 2).mean()) < 2
    relevance = gp._log[:3].exp()
    assert relevance[0] > 3 * relevance[1:].max()


def test_process_is_scikit_learns(process):
    """At the hyperparameters found, mean and deviation are those of another implementation."""
    gaussian = pytest.importorskip("sklearn.gaussian_process", reason="scikit-learn is not installed")
    kernels = gaussian.kernels
    gp, x, trend, rng = process
    signal, noise = gp._log[-2:].exp().tolist()
    scale = gp._log[:3].exp()[[0, 0, 1, 2]].numpy()
    targets = np.sin(x[:, 0]) + x[:, 1] + 0.5 * trend[:, 1] + 3
    kernel = kernels.ConstantKernel(signal) * kernels.RBF(np.append(1 / scale, [1e9, 1e9]))
    linear = kernels.DotProduct(sigma_0=0)

    class Trend(type(linear)):
        """On the last two columns."""

        def __call__(self, a, b=None, eval_gradient=False):
            return super().__call__(a[:, -2:], None if b is None else b[:, -2:])

        def diag(self, a):
            return super().diag(a[:, -2:])

    both = kernel + Trend(sigma_0=0) + kernels.WhiteKernel(noise)
    reference = gaussian.GaussianProcessRegressor(both, alpha=0, optimizer=None)
    reference.fit(np.hstack([x, trend]), (targets - targets.mean()) / targets.std())
    new, new_trend = rng.normal(size=(5, 4)), np.stack([np.ones(5), rng.normal(size=5)], 1)
    mean, deviation = reference.predict(np.hstack([new, new_trend]), return_std=True)
    said = gp.predict(new, new_trend)
    assert said.mean == pytest.approx(mean * targets.std() + targets.mean(), abs=1e-6)
    assert said.deviation == pytest.approx(deviation * targets.std(), abs=1e-6)


def test_expecting_a_point_is_observing_it_at_its_mean(process):
    """Means stay; deviations are those of one more observation, by the definition of a conditional variance."""
    gp, x, trend, rng = process
    new, new_trend = rng.normal(size=(6, 4)), np.stack([np.ones(6), rng.normal(size=6)], 1)
    said = gp.predict(new, new_trend)
    before = said.mean.copy()
    said.expect(2)
    assert (said.mean == before).all()
    known = np.vstack([x, new[2:3]]), np.vstack([trend, new_trend[2:3]])

    def kernel(a, b):
        return gp._kernel(gp._log, *map(torch.from_numpy, (*a, *b))).numpy()

    noise = float(gp._log[-1].exp())
    cross = kernel(known, (new, new_trend))
    explained = cross * np.linalg.solve(kernel(known, known) + noise * np.eye(61), cross)
    variance = kernel((new, new_trend), (new, new_trend)).diagonal() - explained.sum(0) + noise
    assert said.deviation == pytest.approx(gp._scale * np.sqrt(variance), rel=1e-6)
