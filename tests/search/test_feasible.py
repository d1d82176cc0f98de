"""What a controller chooses from is what fits, at the cost that the search lowers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.search.controllers import make_controller
from cmpnas.search.feasible import Table, Within
from cmpnas.space import load_space
from tests.space.test_timed import table_of


@pytest.fixture(scope="module")
def timed():
    plain = load_space("tiny")
    return plain.timed(table_of(plain))


def test_all_ways_lead_to_what_fits(timed):
    every = timed.everything(Budget(), at_most=960)
    costs = {every[n]: timed.cost(every[n]) for n in range(960)}
    middle = float(np.median([cost.latency_ms for cost in costs.values()]))
    for budget, cost_of in ((Budget(0.8), "mflops"), (Budget(latency_ms=middle), "latency_ms")):
        within = Within(timed, budget)
        fitting = {arch for arch, cost in costs.items() if budget.allows(cost)}
        genes = np.random.default_rng(0).integers(0, 2, (40, len(timed.decisions)))
        whole = within.everything(960)
        assert {within.arch(row) for row in whole.genes} == fitting
        for found in (whole, within.nearest_many(genes), within.draw(40, 0), within.draw(40, 0, "cost")):
            archs = [within.arch(row) for row in found.genes]
            assert set(archs) <= fitting
            assert found.cost == pytest.approx([getattr(costs[arch], cost_of) for arch in archs])
            assert (np.array([within.genes(arch) for arch in archs]) == found.genes).all()
        half = float(np.median(whole.cost))
        assert within.capped(half).everything(960).cost.max() <= half * (1 + 1e-9)


def test_a_limit_on_parameters_holds_for_what_is_drawn(timed):
    budget = Budget(params_m=float(np.median([timed.cost(arch).params_m for arch in timed.extremes()])))
    within = Within(timed, budget)
    for over in ("architectures", "cost"):
        drawn = [within.arch(row) for row in within.draw(100, 0, over).genes]
        assert all(budget.allows(timed.cost(arch)) for arch in drawn)


@pytest.mark.parametrize("name", ["mflops", "latency_ms"])
def test_a_cap_above_the_budget_changes_nothing(timed, name):
    limit = float(np.median([getattr(timed.cost(arch), name) for arch in timed.extremes()]))
    within = Within(timed, Budget(**{name: limit}))
    assert within.capped(2 * limit).budget == within.budget
    assert within.capped(0.9 * limit).budget == Budget(**{name: 0.9 * limit})
    assert Within(timed, Budget(params_m=1.0)).capped(0.8).budget == Budget(0.8, 1.0)


@pytest.fixture(scope="module")
def table():
    """Thirty architectures in no order of cost, of a space whose decisions have two or three values each."""
    space = load_space("mobile_small")
    drawn = space.sample_many(30, 0)
    archs = list({drawn[n]: None for n in range(30)})
    return Table(space, archs, np.random.default_rng(1).uniform(0.5, 8, len(archs)).tolist())


def test_a_table_is_drawn_from_evenly_over_log_cost(table):
    """The nearest in log cost to each of as many even numbers."""
    logs = np.log(table.costs)
    wanted = np.random.default_rng(5).uniform(logs.min(), logs.max(), 200)
    expected = [min(range(len(logs)), key=lambda row: abs(logs[row] - want)) for want in wanted]
    drawn = table.draw(200, 5, "cost")
    assert drawn.cost.tolist() == table.costs[expected].tolist()
    assert [table.arch(genes) for genes in drawn.genes] == [table.archs[row] for row in expected]


def apart(space, one, other) -> float:
    """How far two architectures depart from each other."""
    first, second, total = dict(one.choices), dict(other.choices), 0.0
    for name, values in space.decisions.items():
        if name in first and name in second:
            total += abs(values.index(first[name]) - values.index(second[name])) / max(1, len(values) - 1)
        else:
            total += (name in first) != (name in second)
    return total


def test_the_nearest_of_a_table_departs_least(table):
    space = table.space
    assert {len(values) for values in space.decisions.values()} == {2, 3}
    rng = np.random.default_rng(2)
    wishes = np.stack([rng.integers(0, len(values), 50) for values in space.decisions.values()], 1)
    found = table.nearest_many(wishes).genes
    for wish, genes in zip(space.nearest_many(wishes, Budget()), found, strict=True):
        assert table.arch(genes) == table.nearest(dict(wish.choices))
        least = min(apart(space, wish, arch) for arch in table.archs)
        assert apart(space, wish, table.arch(genes)) == pytest.approx(least)


@pytest.mark.parametrize("seed", range(5))
def test_the_cheapest_end_is_that_of_what_is_lowered(seed):
    """In milliseconds it need not be the one of fewest multiply-adds."""
    plain, rng = load_space("tiny"), np.random.default_rng(seed)
    operators = {name: ms * rng.uniform(0.5, 1.5) for name, ms in table_of(plain).operators.items()}
    space = plain.timed(replace(table_of(plain), operators=operators))
    every = space.everything(Budget(), at_most=960)
    costs = [space.cost(every[n]) for n in range(960)]
    most = max(cost.latency_ms for cost in costs)
    fastest, _ = Within(space, Budget(latency_ms=most)).ends()
    assert space.cost(fastest).latency_ms == min(cost.latency_ms for cost in costs)
    assert space.cost(Within(space, Budget(2.0)).ends()[0]).macs == min(cost.macs for cost in costs)


@pytest.mark.parametrize("name", ["predictor", "optuna:nsga2", "spos"])
def test_a_search_within_milliseconds(timed, name):
    """The cheapest in multiply-adds need not be the fastest."""
    budget = Budget(latency_ms=float(np.median([timed.cost(arch).latency_ms for arch in timed.extremes()])))
    controller = make_controller(name, timed, budget, population=8, seed=0)
    asked = []
    for number in range(20):
        asked.append(controller.ask())
        controller.tell(asked[-1], number % 7 / 7, timed.cost(asked[-1]).latency_ms)
    assert len(set(asked)) == 20
    assert all(budget.allows(timed.cost(arch)) for arch in asked)
