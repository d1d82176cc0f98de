"""Counting, extremes and sampling against plain enumeration."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import numpy as np
import pytest

from cmpnas.cost import Budget, Cost
from cmpnas.errors import BudgetError
from cmpnas.space import SearchSpace, load_space
from cmpnas.space.grow import Declared
from cmpnas.space.spec import check_spec
from tests.conftest import small_spec


def enumerate_all(space: SearchSpace):
    """Every architecture, by brute force over all settings of all decisions."""
    names = list(space.decisions)
    return {
        space.arch(dict(zip(names, values, strict=True))) for values in itertools.product(*space.decisions.values())
    }


@pytest.fixture(scope="module")
def tiny():
    return load_space("tiny")


@pytest.fixture(scope="module")
def every(tiny):
    return sorted(enumerate_all(tiny), key=lambda arch: (tiny.cost(arch).macs, arch.id))


def test_count_equals_enumeration(tiny, every):
    assert tiny.count() == len(every) == 960


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_count_under_limits_equals_enumeration(tiny, every, share):
    costs = [tiny.cost(arch) for arch in every]
    mflops = sorted(c.mflops for c in costs)[round(share * (len(costs) - 1))]
    params = sorted(c.params_m for c in costs)[round((1 - share / 2) * (len(costs) - 1))]
    assert tiny.count(max_mflops=mflops) == sum(c.mflops <= mflops for c in costs)
    assert tiny.count(max_params_m=params) == sum(c.params_m <= params for c in costs)
    both = sum(c.mflops <= mflops and c.params_m <= params for c in costs)
    assert tiny.count(max_mflops=mflops, max_params_m=params) == both > 0


def test_batched_costs_equal_those_of_each(tiny, every):
    batch = tiny.batch(every)
    costs = [tiny.cost(arch) for arch in every]
    assert [*zip(batch.macs, batch.params, batch.peak, strict=True)] == [(c.macs, c.params, c.peak) for c in costs]
    assert [batch[i] for i in range(len(batch))] == every


def test_extremes_are_the_extremes(tiny, every):
    low, high = tiny.extremes()
    costs = [tiny.cost(arch).macs for arch in every]
    assert (tiny.cost(low).macs, tiny.cost(high).macs) == (min(costs), max(costs))


def chi_square(drawn, feasible) -> float:
    """Of observed against even, in standard deviations of what chance gives."""
    seen = Counter(drawn[i] for i in range(len(drawn)))
    assert set(seen) <= set(feasible)
    expected = len(drawn) / len(feasible)
    chi2 = sum((seen[arch] - expected) ** 2 / expected for arch in feasible)
    freedom = len(feasible) - 1
    return (chi2 - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("limits", [(1, None), (0.05, None), (None, 0.3), (0.6, 0.6), (0.3, 0.9)])
def test_samples_are_uniform_over_the_feasible(tiny, every, limits):
    costs = [tiny.cost(arch) for arch in every]
    mflops, params = (
        None if share is None else sorted(getattr(c, name) for c in costs)[round(share * (len(every) - 1))]
        for share, name in zip(limits, ("mflops", "params_m"), strict=True)
    )
    budget = Budget(mflops, params)
    feasible = [arch for arch, cost in zip(every, costs, strict=True) if budget.allows(cost)]
    drawn = tiny.sample_many(60 * len(feasible), 7, max_mflops=mflops, max_params_m=params)
    assert abs(chi_square(drawn, feasible)) < 4


def test_one_at_a_time_is_uniform_too(small):
    feasible = list(enumerate_all(small))
    rng = random.Random(3)
    seen = Counter(small.sample(rng) for _ in range(5 * len(feasible)))
    assert len(seen) > 0.98 * len(feasible)


@pytest.mark.parametrize("name", ["shufflenet", "mobile", "tiny"])
def test_sampling_over_cost_is_log_uniform(name):
    space = load_space(name)
    low, high = (space.cost(arch).macs for arch in space.extremes())
    drawn = np.log(space.sample_many(4000, 5, over="cost").macs)
    share = np.histogram(drawn, 8, (np.log(low), np.log(high) + 1e-9))[0] / len(drawn)
    # Where a space has no architecture of some cost, its neighbours are drawn instead.
    assert share.max() < (0.17 if name != "tiny" else 0.4)
    assert share.min() > 0.09 if name != "tiny" else share.min() > 0


def test_sampling_over_cost_keeps_to_both_limits():
    space = load_space("mobile")
    drawn = space.sample_many(500, 0, max_mflops=200, max_params_m=2, over="cost")
    assert drawn.macs.max() <= 200e6
    assert drawn.params.max() <= 2e6
    assert drawn.macs.min() < 50e6


@pytest.mark.parametrize("name", ["shufflenet", "resnet"])
def test_rare_architectures_are_found_at_once(name):
    """A budget that one in 10^4 meets at most: the count says so, and the share drawn agrees with it."""
    space = load_space(name)
    low, high = (space.cost(arch).mflops for arch in space.extremes())
    limit = low + 0.08 * (high - low)
    assert space.count(max_mflops=limit) / space.count() < 1e-4
    drawn = space.sample_many(20_000, 0, max_mflops=limit)
    assert drawn.macs.max() <= limit * 1e6
    inner = low + 0.07 * (high - low)
    share = space.count(max_mflops=inner) / space.count(max_mflops=limit)
    found = (drawn.macs <= inner * 1e6).mean()
    assert found == pytest.approx(share, abs=5 * (share / len(drawn)) ** 0.5)


def test_the_cheapest_alone_can_be_drawn():
    space = load_space("mobile")
    low = space.cost(space.extremes()[0])
    drawn = space.sample_many(20, 0, max_mflops=low.mflops)
    assert set(drawn.macs) == {low.macs}
    assert space.count(max_params_m=low.params_m) >= 1


def test_counts_beyond_64_bits_are_exact():
    stage = {
        "block": "mbconv",
        "width": [8, 16, 24, 32],
        "depth": [4],
        "kernel": [3, 5, 7, 9],
        "expansion": [1, 2, 4, 6],
    }
    spec = small_spec(stages=[{"name": f"s{i}", **stage} for i in range(5)], last=None)
    space = SearchSpace(Declared(check_spec(spec, "wide")))
    assert space.count() == (4 * 16**4) ** 5 > 2**63
    assert space.count(max_mflops=1e6, max_params_m=1e6) == space.count()
    # Whichever way it is cut, nothing is lost: within a limit, and above it by the mirrored space.
    high = space.lattice.most[0]
    assert space.count() - space.count(max_mflops=(high.macs - 1) / 1e6) == 1
    assert space.count() - space.count(max_params_m=(high.params - 1) / 1e6) == 1


def test_counts_too_large_for_int64_are_exact_in_every_step(monkeypatch):
    """The same sums in Python's integers, which the code falls back to, as in int64."""
    from cmpnas.space import counting

    space = load_space("resnet_basic")
    low, high = (space.cost(arch).mflops for arch in space.extremes())
    limits = [low + share * (high - low) for share in (0.1, 0.4, 0.8)]
    in_int64 = [space.count(max_mflops=limit, max_params_m=limit / 150) for limit in limits]
    monkeypatch.setattr(counting, "_SAFE", 4)
    assert [space.count(max_mflops=limit, max_params_m=limit / 150) for limit in limits] == in_int64
    assert 0 < in_int64[0] < in_int64[2] < space.count()


def test_count_and_sampling_agree_on_a_large_space():
    space = load_space("shufflenet")
    drawn = space.sample_many(20_000, 1)
    for quantile in (0.1, 0.5, 0.9):
        limit = float(np.quantile(drawn.macs, quantile)) / 1e6
        assert space.count(max_mflops=limit) / space.count() == pytest.approx(quantile, abs=0.015)


def test_nearest_keeps_what_fits_and_bends_what_does_not(small):
    _, high = small.extremes()
    every = enumerate_all(small)
    assert small.nearest(dict(high.choices), Budget()) == high
    for limit in sorted(small.cost(arch).mflops for arch in every)[:: len(every) // 9]:
        assert small.cost(small.nearest(dict(high.choices), Budget(limit))).mflops <= limit


def test_unreachable_budget_names_the_smallest(small):
    low, _ = small.extremes()
    with pytest.raises(BudgetError, match=f"smallest reachable is {small.cost(low).mflops} MFLOPs .*{low.id}"):
        small.sample(random.Random(0), max_mflops=1e-6)
    with pytest.raises(BudgetError, match=r"smallest reachable is .* M parameters .*--budget-params-m"):
        small.sample(random.Random(0), max_params_m=1e-6)


def test_limits_that_exclude_each_other_name_the_nearest():
    space = load_space("shufflenet")
    least = space.lattice.least[0]
    budget = Budget(least.mflops, least.params_m)
    assert space.count(max_mflops=budget.mflops, max_params_m=budget.params_m) == 0
    with pytest.raises(BudgetError, match=r"not both; the nearest needs .* MFLOPs and .* M parameters \(osh3"):
        space.require_reachable(budget)


@pytest.mark.parametrize("name", ["mobile", "shufflenet", "resnet"])
def test_unreachable_budgets_are_answered_with_what_can_be_reached(name):
    space = load_space(name)
    least = space.lattice.least[0]
    for budget in (Budget(1.0), Budget(None, 1e-3), Budget(2 * least.mflops, least.params_m - 1e-6)):
        with pytest.raises(BudgetError) as caught:
            space.sample_many(1, 0, max_mflops=budget.mflops, max_params_m=budget.params_m)
    # The limit that the last message names is met when it is given back.
    named = float(re.search(r"smallest reachable is ([\d.]+) M parameters", str(caught.value))[1])
    assert space.sample_many(1, 0, max_params_m=named).params[0] == least.params


def test_an_exact_cost_as_a_budget_is_within_itself():
    for macs in (33_000_000_011, 1_000_001, 94_123_457):
        assert Budget(Cost(macs).mflops, Cost(0, macs).params_m).allows(Cost(macs, macs))
        assert not Budget(Cost(macs).mflops).allows(Cost(macs + 1))


@pytest.mark.parametrize("value", [0, -3, float("nan"), float("inf")])
def test_budget_must_be_positive(value):
    with pytest.raises(BudgetError, match="not a positive number"):
        Budget(value)


def test_budget_holds_at_equality(small):
    assert Budget(mflops=0.3).allows(Cost(macs=300_000))
    assert not Budget(mflops=0.3).allows(Cost(macs=300_001))
