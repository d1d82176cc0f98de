"""What every controller promises: feasible, never twice, a function of seed and results alone."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.errors import CmpnasError
from cmpnas.search.controllers import CONTROLLERS, find_controller, make_controller, predictor
from cmpnas.search.feasible import Within
from cmpnas.search.gaussian import GaussianProcess
from cmpnas.search.hypervolume import Front
from cmpnas.space import SearchSpace, load_space
from cmpnas.space.grow import Declared
from cmpnas.space.spec import check_spec
from cmpnas.testing import check_controller
from tests.conftest import small_spec


@pytest.mark.parametrize("name", [name for name in CONTROLLERS if name != "optuna:gp"])
@pytest.mark.filterwarnings("ignore:.*experimental")
def test_promises(name):
    if name.startswith("nni:") and find_spec("nni") is None:
        pytest.skip("NNI is not installed")
    check_controller(name, steps=24)


def test_gaussian_process_of_optuna(small):
    """A few proposals beyond its random ones; it keeps promises by what it shares with Optuna's other samplers."""
    pytest.importorskip("scipy", reason="Optuna's Gaussian process needs scipy")
    controller = make_controller("optuna:gp", small, Budget(), population=8, seed=0)
    asked = []
    for number in range(13):
        asked.append(controller.ask())
        controller.tell(asked[-1], float(number), small.cost(asked[-1]).mflops)
    assert len(set(asked)) == 13


BROKEN = '''
import random
from cmpnas.search.controllers.novelty import Novelty

class Fair:
    """Draws at random."""
    def __init__(self, feasible, *, population, seed):
        self.feasible, self.known, self.seed = feasible, Novelty(feasible, seed), seed
    def ask(self):
        arch = self.known.draw()
        if arch is not None:
            self.known.add(arch)
        return arch
    def tell(self, arch, score, mflops):
        self.known.add(arch)

class Repeats(Fair):
    def ask(self):
        return self.feasible.ends()[0]

class Exceeds(Fair):
    def ask(self):
        return self.feasible.space.extremes()[1] if hasattr(self.feasible, "budget") else super().ask()

class Careless(Fair):
    def __init__(self, feasible, *, population, seed):
        super().__init__(feasible, population=population, seed=random.getrandbits(30))

class Deaf(Fair):
    def tell(self, arch, score, mflops):
        pass

class Early(Fair):
    asked = 0
    def ask(self):
        self.asked += 1
        return super().ask() if self.asked < 15 else None

class Mute:
    def ask(self):
        pass
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's in the working folder."""
    (tmp_path / "own_controllers.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    yield "own_controllers"
    sys.modules.pop("own_controllers", None)


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        ("Repeats", "twice"),
        ("Exceeds", "exceeds the budget"),
        ("Careless", "one seed gives two searches"),
        ("Deaf", "what it was told without asking"),
        ("Early", "it proposes 14"),
    ],
)
def test_broken_promises_are_found(own, name, promise):
    with pytest.raises(CmpnasError, match=promise):
        check_controller(f"{own}:{name}")


def test_own_controller_by_import_path(own):
    check_controller(f"{own}:Fair")
    with pytest.raises(CmpnasError, match="no controller: it has no 'tell'"):
        find_controller(f"{own}:Mute")
    with pytest.raises(CmpnasError, match="has no 'Nothing'"):
        find_controller(f"{own}:Nothing")


@pytest.mark.parametrize(("name", "fault"), [("Repeats", "twice"), ("Exceeds", "exceeds the budget")])
def test_a_broken_promise_ends_a_search_before_it_is_evaluated(own, name, fault):
    space = load_space("tiny")
    controller = make_controller(f"{own}:{name}", space, Budget(0.6), population=8, seed=0)

    def go_on():
        for _ in range(40):
            controller.tell(controller.ask(), 0.5, 0.5)

    with pytest.raises(CmpnasError, match=fault):
        go_on()


def test_what_cannot_be_made_or_is_none_of_the_space_is_told(own, tmp_path):
    (tmp_path / "own_controllers.py").write_text(
        "class Bare:\n    def __init__(self, feasible): pass\n    def ask(self): return 3\n    tell = ask\n"
        "class Odd(Bare):\n    def __init__(self, feasible, population, seed): pass\n"
    )
    with pytest.raises(CmpnasError, match=r"own_controllers:Bare cannot be made \(.*population.*see docs/controllers"):
        make_controller(f"{own}:Bare", load_space("tiny"), Budget(), population=8, seed=0)
    odd = make_controller(f"{own}:Odd", load_space("tiny"), Budget(), population=8, seed=0)
    with pytest.raises(CmpnasError, match="proposes 3, which is no architecture of 'tiny'"):
        odd.ask()


@pytest.mark.parametrize("name", [name for name in CONTROLLERS if not name.startswith("nni:")])
def test_a_space_of_one_architecture_is_searched_in_one_step(name):
    stage = {"name": "a", "block": "mbconv", "width": 8, "depth": 1, "stride": 2, "kernel": 3, "expansion": 2}
    space = SearchSpace(Declared(check_spec(small_spec(stages=[stage]), "fixed")))
    controller = make_controller(name, space, Budget(), population=8, seed=0)
    arch = controller.ask()
    assert arch.id == "fixed"
    controller.tell(arch, 0.5, space.cost(arch).mflops)
    assert controller.ask() is None


@pytest.mark.parametrize("name", ["nsga2", "optuna:nsga", "nni:annealing"])
def test_unknown_controller(name):
    with pytest.raises(CmpnasError, match=rf"unknown controller '{name}'.*optuna:nsga2.*package.module:Class"):
        find_controller(name)


def test_nni_is_an_extra(monkeypatch, small):
    monkeypatch.setitem(sys.modules, "nni", None)
    with pytest.raises(CmpnasError, match=r"NNI cannot be imported .*pip install .*\[nni\]"):
        make_controller("nni:tpe", small, Budget(), population=8, seed=0)


def test_exhaustive_is_for_small_sets():
    with pytest.raises(CmpnasError, match="at most 100,000 architectures"):
        make_controller("exhaustive", load_space("mobile_small"), Budget(), population=8, seed=0)


def additive(space, seed):
    """A score that adds a worth for each value and grows with cost, as architectures' scores do."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=(len(space.decisions), max(map(len, space.decisions.values())) + 1))
    low, high = (space.cost(arch).mflops for arch in space.extremes())

    def score(arch, mflops):
        said = worth[np.arange(len(worth)), space.genes([arch])[0]].sum()
        return float(said / len(worth) ** 0.5 + 2 * np.log(mflops / low) / np.log(high / low))

    return score, (low, high)


def search(name, space, seed, trials):
    """The hypervolume after so many evaluations of an additive score."""
    score, span = additive(space, seed)
    controller = make_controller(name, space, Budget(), population=24, seed=seed)
    scores, costs = np.zeros(trials), np.zeros(trials)
    for n in range(trials):
        arch = controller.ask()
        costs[n] = space.cost(arch).mflops
        scores[n] = score(arch, costs[n])
        controller.tell(arch, scores[n], costs[n])
    return Front(scores, costs, floor=-3.0, span=span).hypervolume


def test_predictor_needs_a_fifth_of_the_evaluations():
    """With 30 evaluations it is beyond what random proposals and NSGA-II reach with 150, which is beyond random."""
    space = load_space("mobile_small")
    random, nsga2 = (search(name, space, 0, 150) for name in ("optuna:random", "optuna:nsga2"))
    assert nsga2 > random
    assert search("predictor", space, 0, 30) > 1.02 * nsga2


def test_predictor_spreads_what_it_asks_for_at_once():
    """Eight proposals before any is scored: in a quarter of all costs' range and more, and far from each other."""
    space = load_space("mobile_small")
    score, (low, high) = additive(space, 0)
    controller = make_controller("predictor", space, Budget(), population=24, seed=0)
    apart, ranges = [], []
    for number in range(4):
        archs = [controller.ask() for _ in range(8)]
        costs = [space.cost(arch).mflops for arch in archs]
        for arch, cost in zip(archs, costs, strict=True):
            controller.tell(arch, score(arch, cost), cost)
        if number > 1:
            genes = space.genes(archs)
            apart.append(np.median((genes[:, None] != genes).sum(-1)[np.triu_indices(8, 1)]))
            ranges.append(np.log(max(costs) / min(costs)) / np.log(high / low))
    assert min(apart) >= 3
    assert min(ranges) > 0.25


def test_predictor_finds_the_true_front_of_tiny():
    """The whole space is known: 10% of it suffices for 99% of the front."""
    space = load_space("tiny")
    score, span = additive(space, 5)
    every = space.everything(Budget(), at_most=960)
    costs = every.macs / 1e6
    scores = np.array([score(every[n], cost) for n, cost in enumerate(costs)])
    true = Front(scores, costs, floor=-3.0, span=span).hypervolume
    assert search("predictor", space, 5, 96) > 0.99 * true


def test_an_architecture_of_the_budget_alone(small):
    """Where a single architecture fits, it is proposed, and nothing else."""
    low = small.cost(small.extremes()[0]).mflops
    for name in ("predictor", "optuna:nsga2", "spos", "exhaustive"):
        feasible = Within(small, Budget(low))
        controller = find_controller(name)(feasible, population=8, seed=0)
        assert controller.ask() == small.extremes()[0]
        controller.tell(small.extremes()[0], 0.5, low)
        assert controller.ask() is None


def test_documented_controller_keeps_its_promises(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "controllers.md").read_text()
    (tmp_path / "my_controllers.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    monkeypatch.chdir(tmp_path)
    check_controller("my_controllers:Greedy")
    sys.modules.pop("my_controllers")


def test_predictor_learns_from_a_bounded_number_and_ever_more_rarely(monkeypatch):
    """Where everything evaluated is on the front, too; as long as there is little, all of it counts at every plan."""
    space, fits = load_space("mobile_small"), []
    monkeypatch.setattr(predictor, "_LEARNT", 60)
    monkeypatch.setattr(predictor, "_AT_MOST", 2)
    fit = GaussianProcess.fit

    def counted(self, features, trend, targets, *, again):
        fits.append((len(targets), again))
        fit(self, features, trend, targets, again=again)

    monkeypatch.setattr(GaussianProcess, "fit", counted)
    drawn = space.sample_many(1_200, 0)
    archs = list(dict.fromkeys(drawn[i] for i in range(1_200)))
    controller = make_controller("predictor", space, Budget(), population=8, seed=0)
    for _ in range(4):
        controller.ask()
    for number, arch in enumerate(archs, 1):
        cost = space.cost(arch).mflops
        controller.tell(arch, float(np.log(cost)), cost)
        if number in (40, 60, 1_000, 1_030, 1_060):
            while len(controller._plan.genes):
                controller.ask()
            controller.ask()
    assert fits[:2] == [(40, True), (60, True)]
    assert all(60 < size <= 120 for size, _ in fits[2:])
    assert [again for _, again in fits[2:]] == [True, False, True]  # from 1,000 on after every 40
