"""The hypervolume against optuna's, and against a count of points."""

from __future__ import annotations

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from cmpnas.search.hypervolume import growth


def searched(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 0.9, n), rng.uniform(1, 50, n)


def test_it_is_optunas_over_log_cost():
    scores, costs = searched()
    low, high = 1.0, 40.0
    found = growth(scores, costs, floor=0.0, span=(low, high))
    for n in (1, 7, 60):
        losses = np.stack([-scores, np.log(costs)], 1)[:n][costs[:n] <= high]
        area = compute_hypervolume(losses, np.array([0.0, np.log(high)]))
        assert found[n - 1] == pytest.approx(area / np.log(high / low), rel=1e-12)


def test_it_is_the_mean_of_the_best_at_or_below_a_cost():
    scores, costs = searched(seed=1)
    low, high = costs.min(), costs.max()
    at = np.exp(np.linspace(np.log(low), np.log(high), 20_001))
    best = np.array([scores[costs <= limit].max() for limit in at])
    assert growth(scores, costs, floor=0.0, span=(low, high))[-1] == pytest.approx(best.mean(), abs=1e-4)


def test_what_is_too_dear_counts_nothing_and_it_never_falls():
    assert growth(np.array([0.9]), np.array([5.0]), floor=0.0, span=(1.0, 4.0)).tolist() == [0.0]
    assert growth(np.array([0.5]), np.array([1.0]), floor=0.0, span=(1.0, 4.0)).tolist() == [0.5]
    scores, costs = searched(seed=2)
    assert (np.diff(growth(scores, costs, floor=0.0, span=(1.0, 40.0))) >= 0).all()
