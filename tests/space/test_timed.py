"""Milliseconds are one more exact cost: counting, sampling and the nearest under them against plain enumeration."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.cost.latency import Correction, LatencyTable
from cmpnas.errors import BudgetError, LatencyError
from cmpnas.search.controllers import make_controller
from cmpnas.space import load_space

CORRECTION = Correction(network_ms=0.2, alone=1.5, operator_ms=0.01, params_ms=2.0)


def table_of(space, **changes) -> LatencyTable:
    """Times that have nothing to do with multiply-adds."""
    rng = random.Random(5)
    return LatencyTable(**{
        "operators": {name: rng.uniform(0.01, 1) for name in space.operators},
        "correction": CORRECTION, "space": space.identity, **changes,
    })  # fmt: skip


def expected_ms(space, table, arch) -> float:
    """A network's time by the words of the documentation."""
    total = 0.2
    for layer in space.layers(arch):
        total += 1.5 * table.operators[layer.operator] + 0.01 + 2.0 * space.operators[layer.operator][1].params / 1e6
    return total


@pytest.fixture(scope="module")
def plain():
    return load_space("tiny")


@pytest.fixture(scope="module")
def table(plain):
    return table_of(plain)


@pytest.fixture(scope="module")
def tiny(plain, table):
    return plain.timed(table)


@pytest.fixture(scope="module")
def every(tiny):
    names = list(tiny.decisions)
    settings = itertools.product(*tiny.decisions.values())
    return sorted({tiny.arch(dict(zip(names, values, strict=True))) for values in settings}, key=lambda arch: arch.id)


def test_a_network_takes_what_the_table_says(plain, tiny, table, every):
    slowest = max(tiny.cost(arch).latency_ms for arch in every)
    for arch in every[::7]:
        assert tiny.cost(arch).latency_ms == pytest.approx(expected_ms(plain, table, arch), abs=1e-4 * slowest)
        assert (tiny.cost(arch).macs, tiny.cost(arch).params) == (plain.cost(arch).macs, plain.cost(arch).params)
    assert plain.cost(every[0]).latency_ms is None
    assert tiny.fingerprint == plain.fingerprint  # a supernet does not depend on who times it


def test_batches_know_it_too(plain, tiny, every):
    assert tiny.batch(every).ns.tolist() == [tiny.cost(arch).ns for arch in every]
    assert plain.batch(every).ns is None


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_counting_equals_enumeration(tiny, every, share):
    costs = [tiny.cost(arch) for arch in every]
    ms = sorted(cost.latency_ms for cost in costs)[round(share * (len(costs) - 1))]
    mflops = sorted(cost.mflops for cost in costs)[round(0.6 * (len(costs) - 1))]
    assert tiny.count(max_latency_ms=ms) == sum(cost.latency_ms <= ms for cost in costs)
    both = sum(cost.latency_ms <= ms and cost.mflops <= mflops for cost in costs)
    if both:
        assert tiny.count(max_latency_ms=ms, max_mflops=mflops) == both
    params = sorted(cost.params_m for cost in costs)[round(0.8 * (len(costs) - 1))]
    both = sum(cost.latency_ms <= ms and cost.params_m <= params for cost in costs)
    assert tiny.count(max_latency_ms=ms, max_params_m=params) == both


@pytest.mark.parametrize("second", [{}, {"max_mflops": 1.0}, {"max_params_m": 0.03}])
def test_samples_are_uniform_over_what_fits(tiny, every, second):
    budget = Budget(second.get("max_mflops"), second.get("max_params_m"), 4.0)
    fitting = {arch for arch in every if budget.allows(tiny.cost(arch))}
    assert 10 < len(fitting) < 700
    drawn = tiny.sample_many(40 * len(fitting), 1, max_latency_ms=4.0, **second)
    rows, counts = np.unique(drawn.rows, axis=0, return_counts=True)
    assert {drawn[place] for place in np.unique(drawn.rows, axis=0, return_index=True)[1]} == fitting
    chi2 = ((counts - 40) ** 2 / 40).sum()
    assert abs(chi2 - len(rows)) < 5 * (2 * len(rows)) ** 0.5


def test_over_cost_keeps_the_limit(tiny):
    drawn = tiny.sample_many(2000, 0, max_latency_ms=4.0, over="cost")
    assert (drawn.ns <= 4_000_000).all()


def test_within_milliseconds_and_parameters_it_is_milliseconds_that_are_drawn_evenly(tiny, every):
    limits = {"max_latency_ms": 6.0, "max_params_m": 0.035}
    drawn = tiny.sample_many(4000, 0, **limits, over="cost")
    assert (drawn.ns <= 6_000_000).all()
    assert (drawn.params <= 35_000).all()
    fitting = [cost.latency_ms for arch in every if Budget(None, 0.035, 6.0).allows(cost := tiny.cost(arch))]
    middle = (min(fitting) * max(fitting)) ** 0.5
    assert np.mean(drawn.ns < 1e6 * middle) == pytest.approx(0.5, abs=0.1)
    uniform = tiny.sample_many(4000, 0, **limits)
    assert np.mean(uniform.ns < 1e6 * middle) < 0.36  # where most are slow


@pytest.mark.parametrize("name", ["optuna:nsga2", "predictor"])
@pytest.mark.parametrize("budget", [Budget(mflops=1.5, latency_ms=4.0), Budget(params_m=0.03, latency_ms=4.0)])
def test_proposals_are_brought_within_it(tiny, name, budget):
    controller = make_controller(name, tiny, budget, population=6, seed=0)
    for _ in range(25):
        arch = controller.ask()
        cost = tiny.cost(arch)
        assert budget.allows(cost)
        controller.tell(arch, random.Random(arch.id).random(), cost.latency_ms)


def test_an_unreachable_budget_names_the_fastest(tiny, every):
    fastest = min(tiny.cost(arch).latency_ms for arch in every)
    with pytest.raises(BudgetError, match=f"the smallest reachable is {fastest:.6f}".rstrip("0")) as caught:
        tiny.require_reachable(Budget(latency_ms=0.5 * fastest))
    assert "raise --budget-latency-ms" in str(caught.value)
    cheapest = min(every, key=lambda arch: tiny.cost(arch).macs)
    with pytest.raises(BudgetError, match=r"each limit is reachable alone \(from .* MFLOPs, .* ms\), not both"):
        tiny.require_reachable(Budget(mflops=tiny.cost(cheapest).mflops, latency_ms=fastest))


def test_a_budget_without_a_table_says_what_to_do(plain):
    for work in (plain.count, lambda **limit: plain.sample_many(1, 0, **limit)):
        with pytest.raises(BudgetError, match="needs a latency table of the space: make one with cmpnas measure"):
            work(max_latency_ms=1.0)
    with pytest.raises(BudgetError, match="at most two"):
        Budget(1, 1, 1)
    with pytest.raises(BudgetError, match="give --budget-latency-ms a number above 0"):
        Budget(latency_ms=0)


def test_what_is_not_in_the_table_is_named(plain, table):
    missing = list(plain.operators)[7]
    operators = {name: ms for name, ms in table.operators.items() if name != missing}
    with pytest.raises(LatencyError, match="is not in the latency table") as caught:
        plain.timed(table_of(plain, operators=operators))
    assert repr(missing) in str(caught.value)


def test_a_table_of_another_space_is_refused(plain, table, small):
    for other in (small, plain.resized(size=64), plain.resized(embedding_dim=8)):
        with pytest.raises(LatencyError, match=r"is of another space \(name tiny, size 32"):
            other.timed(table)


def test_large_spaces_are_still_counted_exactly():
    space = load_space("shufflenet", size=32)
    timed = space.timed(table_of(space))
    drawn = timed.sample_many(4000, 0)
    middle = float(np.median(drawn.ns)) / 1e6
    assert timed.count(max_latency_ms=middle) / timed.count() == pytest.approx(0.5, abs=0.03)
