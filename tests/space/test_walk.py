"""Many architectures at once are those that one at a time gives."""

from __future__ import annotations

import random

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.errors import BudgetError
from cmpnas.space import load_space

SPACES = {"tiny": 32, "mobile_small": 48, "shufflenet": 64}


@pytest.fixture(params=SPACES)
def space(request):
    return load_space(request.param, size=SPACES[request.param])


def budgets(space):
    low, high = (space.cost(arch) for arch in space.extremes())
    macs, params = (low.mflops * high.mflops) ** 0.5, low.params_m + 0.4 * (high.params_m - low.params_m)
    return [Budget(), Budget(macs), Budget(None, params), Budget(macs, params), Budget(low.mflops)]


def test_nearest_of_many_is_nearest_of_each(space):
    rng, names = random.Random(0), space.decisions
    for budget in budgets(space):
        wanted = [{n: rng.choice(v) for n, v in names.items() if rng.random() < 0.9} for _ in range(15)]
        genes = [[names[n].index(want[n]) if n in want else -1 for n in names] for want in wanted]
        found = space.nearest_many(np.array(genes), budget)
        assert [found[i] for i in range(15)] == [space.nearest(want, budget) for want in wanted]
        assert found.within(budget).all()


def test_genes_say_which_values_are_taken(space):
    drawn = space.sample_many(50, 0)
    archs = [drawn[i] for i in range(50)]
    genes = space.genes(drawn)
    assert (genes == space.genes(archs)).all()
    for arch, row in zip(archs, genes, strict=True):
        taken = {n: v[g] for (n, v), g in zip(space.decisions.items(), row, strict=True) if g >= 0}
        assert taken == dict(arch.choices)
    again = space.nearest_many(genes, Budget())
    assert (again.rows == drawn.rows).all()


def test_everything_is_what_counting_counts():
    space = load_space("tiny")
    for budget in budgets(space):
        found = space.everything(budget, at_most=960)
        assert len(np.unique(found.rows, axis=0)) == len(found)
        assert found.within(budget).all()
        if budget.mflops is None or budget.params_m is None:
            assert len(found) == space.count(max_mflops=budget.mflops, max_params_m=budget.params_m)
    whole, both = space.everything(Budget(), at_most=960), budgets(space)[3]
    assert len(space.everything(both, at_most=960)) == whole.within(both).sum()
    assert space.everything(Budget(), at_most=959) is None


def test_too_much_is_noticed_early(space):
    if space.name != "tiny":
        assert space.everything(Budget(), at_most=1000) is None
    with pytest.raises(BudgetError, match="smallest reachable"):
        space.everything(Budget(1e-3), at_most=10)
