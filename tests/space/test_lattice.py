"""Counting, extremes and sampling against plain enumeration."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from cmpnas.cost import Budget, Cost
from cmpnas.errors import BudgetError
from cmpnas.space import SearchSpace
from cmpnas.space.spec import check_spec
from tests.conftest import small_spec


def enumerate_all(space: SearchSpace):
    """Every architecture, by brute force over all settings of all decisions."""
    names = list(space.decisions)
    return {
        space.arch(dict(zip(names, values, strict=True))) for values in itertools.product(*space.decisions.values())
    }


@pytest.fixture
def every(small):
    return enumerate_all(small)


def test_count_equals_enumeration(small, every):
    assert small.count() == len(every) == 480


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_count_under_one_limit_equals_enumeration(small, every, share):
    costs = sorted(small.cost(arch).mflops for arch in every)
    limit = costs[round(share * (len(costs) - 1))]
    assert small.count(max_mflops=limit) == sum(cost <= limit for cost in costs)
    sizes = sorted(small.cost(arch).params_m for arch in every)
    limit = sizes[round(share * (len(sizes) - 1))]
    assert small.count(max_params_m=limit) == sum(size <= limit for size in sizes)


def test_count_under_both_limits_equals_enumeration(small, every):
    costs = [small.cost(arch) for arch in every]
    macs, params = sorted(c.macs for c in costs)[200], sorted(c.params for c in costs)[250]
    expected = sum(c.macs <= macs and c.params <= params for c in costs)
    assert small.count(max_mflops=macs / 1e6, max_params_m=params / 1e6) == expected > 0


def test_extremes_are_the_extremes(small, every):
    low, high = small.extremes()
    costs = [small.cost(arch).macs for arch in every]
    assert (small.cost(low).macs, small.cost(high).macs) == (min(costs), max(costs))


def test_samples_are_uniform_over_the_feasible(small, every):
    limit = sorted(small.cost(arch).mflops for arch in every)[40]
    feasible = [arch for arch in every if small.cost(arch).mflops <= limit]
    rng, draws = random.Random(3), 200 * len(feasible)
    seen = Counter(small.sample(rng, max_mflops=limit) for _ in range(draws))
    assert set(seen) == set(feasible)
    expected = draws / len(feasible)
    chi2 = sum((seen[arch] - expected) ** 2 / expected for arch in feasible)
    freedom = len(feasible) - 1
    assert abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5


def test_samples_under_both_limits_are_feasible(small, every):
    costs = [small.cost(arch) for arch in every]
    budget = Budget(sorted(c.mflops for c in costs)[300], sorted(c.params_m for c in costs)[300])
    rng = random.Random(0)
    for _ in range(50):
        arch = small.sample(rng, max_mflops=budget.mflops, max_params_m=budget.params_m)
        assert budget.allows(small.cost(arch))


def test_counts_beyond_64_bits_are_exact():
    stage = {
        "block": "mbconv",
        "width": [8, 16, 24, 32],
        "depth": [4],
        "kernel": [3, 5, 7, 9],
        "expansion": [1, 2, 4, 6],
    }
    spec = small_spec(stages=[{"name": f"s{i}", **stage} for i in range(5)], last=None)
    assert SearchSpace(check_spec(spec, "wide")).count() == (4 * 16**4) ** 5 > 2**63


def test_nearest_keeps_what_fits_and_bends_what_does_not(small, every):
    _, high = small.extremes()
    assert small.nearest(dict(high.choices), Budget()) == high
    for limit in sorted(small.cost(arch).mflops for arch in every)[:: len(every) // 9]:
        assert small.cost(small.nearest(dict(high.choices), Budget(limit))).mflops <= limit


def test_unreachable_budget_names_the_smallest(small):
    low, _ = small.extremes()
    with pytest.raises(BudgetError, match=f"smallest reachable is {small.cost(low).mflops:.6g} MFLOPs .*{low.id}"):
        small.sample(random.Random(0), max_mflops=1e-6)


@pytest.mark.parametrize("value", [0, -3, float("nan"), float("inf")])
def test_budget_must_be_positive(value):
    with pytest.raises(BudgetError, match="not a positive number"):
        Budget(value)


def test_budget_holds_at_equality():
    assert Budget(mflops=0.3).allows(Cost(macs=300_000))
    assert not Budget(mflops=0.3).allows(Cost(macs=300_001))
