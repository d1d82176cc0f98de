"""What every controller promises: feasible, never twice, a function of seed and results alone."""

from __future__ import annotations

import random

import pytest

from cmpnas.cost import Budget
from cmpnas.errors import CmpnasError
from cmpnas.search.controllers import CONTROLLERS, make_controller


def score(arch) -> float:
    """A stand-in for an evaluation: any fixed function of the architecture."""
    return sum(float(value) * (1 + index % 3) for index, (_, value) in enumerate(arch.choices)) / 100


def drive(controller, space, steps):
    asked = []
    for _ in range(steps):
        arch = controller.ask()
        if arch is None:
            break
        asked.append(arch)
        controller.tell(arch, score(arch), space.cost(arch).mflops)
    return asked


@pytest.fixture(params=sorted(CONTROLLERS))
def make(request, small):
    low, high = (small.cost(arch).mflops for arch in small.extremes())
    budget = Budget(low + 0.35 * (high - low))
    return lambda seed=0: (make_controller(request.param, small, budget, population=10, seed=seed), budget)


def test_proposals_are_feasible_and_new(make, small):
    controller, budget = make()
    asked = drive(controller, small, 80)
    assert len(asked) == len(set(asked)) == 80
    assert all(budget.allows(small.cost(arch)) for arch in asked)


def test_the_whole_feasible_space_is_found_and_then_ends(make, small):
    controller, budget = make()
    asked = drive(controller, small, 10_000)
    assert len(asked) == len(set(asked)) == small.count(max_mflops=budget.mflops)


def test_same_seed_same_search_and_another_seed_another(make, small):
    first, again, other = (drive(make(seed)[0], small, 40) for seed in (1, 1, 2))
    assert first == again != other


def test_records_alone_restore_the_state(make, small):
    whole = drive(make()[0], small, 60)
    restored, _ = make()
    assert drive(restored, small, 25) == whole[:25]
    assert drive(restored, small, 35) == whole[25:]


def test_it_learns(small):
    """Late proposals are better for their cost than uniform draws, over five seeds."""

    def efficiency(arch):
        return score(arch) / small.cost(arch).mflops

    late, fair = [], []
    for seed in range(5):
        asked = drive(make_controller("optuna:nsga2", small, Budget(), population=10, seed=seed), small, 120)
        rng = random.Random(seed)
        late.append(sum(map(efficiency, asked[60:])) / 60)
        fair.append(sum(efficiency(small.sample(rng)) for _ in range(60)) / 60)
    assert min(late) > max(fair)


def test_unknown_controller(small):
    with pytest.raises(CmpnasError, match=r"unknown controller 'nsga2'.*optuna:nsga2"):
        make_controller("nsga2", small, Budget(), population=10, seed=0)
