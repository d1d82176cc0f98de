"""What a controller chooses from is what fits, at the cost that the search lowers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.search.controllers import make_controller
from cmpnas.search.feasible import Within
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
