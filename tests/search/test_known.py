"""A search that begins with what is known."""

from __future__ import annotations

import random

import pytest

from cmpnas.cost import Budget
from cmpnas.errors import BudgetError, CmpnasError, SpaceError
from cmpnas.search.controllers import CONTROLLERS, make_controller, read_known
from cmpnas.space import load_space


def begin(name, space, known, budget=Budget()):  # noqa: B008
    content = [arch.to_json() for arch in known]
    return make_controller(name, space, budget, population=8, seed=0, known=content)


@pytest.fixture(scope="module")
def tiny():
    return load_space("tiny")


@pytest.fixture(scope="module")
def three(tiny):
    rng = random.Random(5)
    return [*tiny.extremes(), tiny.sample(rng)]


@pytest.mark.parametrize("name", [name for name in CONTROLLERS if not name.startswith(("nni:", "optuna:gp"))])
def test_known_ones_come_first_and_once_and_the_controller_is_told_of_them(tiny, three, name):
    controller = begin(name, tiny, three)
    asked = []
    for number in range(30):
        arch = controller.ask()
        asked.append(arch)
        controller.tell(arch, number / 30, tiny.cost(arch).mflops)
    assert asked[:3] == three
    assert len(set(asked)) == 30


def test_of_all_that_is_there_nothing_is_left_out_or_repeated(small):
    """Asked for at once, so that the controller itself proposes what it was not told of yet."""
    everything = [small.everything(Budget(), at_most=10_000)[n] for n in range(small.count())]
    known = everything[3:6]
    controller = begin("exhaustive", small, known)
    asked = []
    while (arch := controller.ask()) is not None:
        asked.append(arch)
    assert asked[:3] == known
    assert sorted(arch.id for arch in asked) == sorted(arch.id for arch in everything)


def test_what_it_is_told_of_known_ones_guides_it(tiny, three):
    """The evolution's parents are the best told, whoever proposed them."""
    best = max(three, key=lambda arch: tiny.cost(arch).mflops)
    near = []
    for known in ([best], []):
        controller, asked = begin("spos", tiny, known), []
        for _ in range(16):
            arch = controller.ask()
            asked.append(arch)
            controller.tell(arch, float(arch == best), tiny.cost(arch).mflops)
        genes = tiny.genes(asked)
        near.append((genes[10:] == tiny.genes([best])).mean())
    assert near[0] > near[1]


class Waits:
    """A controller without `independent`."""

    def __init__(self, feasible, *, population, seed):
        self.feasible = feasible

    def ask(self):
        return None

    def tell(self, arch, score, cost):
        pass


def test_known_ones_wait_for_no_result_where_the_controller_says_what_does(tiny, three):
    controller = begin("spos", tiny, three)
    answers = []
    for _ in range(3 + 8 + 1):
        answers.append(controller.independent())
        controller.ask()
    assert answers == [True] * 3 + [False] + [True] * 7 + [False]
    assert not hasattr(begin(f"{__name__}:Waits", tiny, three), "independent")


def test_mistakes(tiny, three):
    low, high = (arch.to_json() for arch in tiny.extremes())
    with pytest.raises(CmpnasError, match=r"^search\.known, 1: w.* \(.* MFLOPs\) exceeds the budget \(0\.5 MFLOPs\)"):
        read_known([low, high], tiny, Budget(0.5))
    with pytest.raises(CmpnasError, match=r"^search\.known, 2: w.* is there twice"):
        read_known([low, high, low], tiny, Budget())
    with pytest.raises(SpaceError, match=r"^search\.known, 0: this architecture is of space 'tiny', not 'mobile_"):
        read_known([low], load_space("mobile_small"), Budget())
    with pytest.raises(SpaceError, match=r"^search\.known, 0: an architecture is"):
        read_known([low["choices"]], tiny, Budget())
    with pytest.raises(BudgetError, match="latency"):
        read_known([low], tiny, Budget(latency_ms=1))
    assert read_known([arch.to_json() for arch in three], tiny, Budget()) == three
