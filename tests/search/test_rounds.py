"""Records do not depend on who evaluates, in which order, or how often the search was stopped."""

from __future__ import annotations

import os
import random
from contextlib import suppress

import pytest

from cmpnas.cost import Budget
from cmpnas.errors import RunError
from cmpnas.search import RecordLog
from cmpnas.search.controllers import CONTROLLERS, make_controller
from cmpnas.search.records import Ahead, PairScore, Record
from cmpnas.search.rounds import search
from cmpnas.space import load_space


class StopError(Exception):
    pass


class Judges:
    """Evaluates in groups in a random order; stops after ``limit`` groups."""

    def __init__(self, space, seed=0, limit=10**9, at_once=3):
        self.space, self.rng, self.limit, self.at_once = space, random.Random(seed), limit, at_once
        self.evaluated = []

    def __call__(self, plan):
        plan = list(plan)
        self.rng.shuffle(plan)
        for start in range(0, len(plan), self.at_once):
            if self.limit == 0:
                raise StopError
            self.limit -= 1
            part = plan[start : start + self.at_once]
            self.evaluated += [proposal.arch for proposal in part]
            yield [self.record(*proposal) for proposal in part]

    def record(self, n, arch, marks):
        cost = self.space.cost(arch)
        score = sum(float(value) * (1 + i % 3) for i, (_, value) in enumerate(arch.choices)) / 1000
        return Record(n, arch, cost.mflops, cost.params_m, {"g": PairScore(score, (0.1, 1 / 3))}, 0.5)


def run(space, folder, judge, trials=30, batch=None, found=(), name="optuna:nsga2"):
    controller = make_controller(name, space, Budget(), population=10, seed=3)
    log, ahead = RecordLog(folder / "records.jsonl", space), Ahead(folder / "ahead.jsonl", space)
    told = search(
        controller, judge, log, ahead, trials=trials, batch=batch, found=found,
        score=lambda record: record.reward("g", "r2"), cost=lambda record: record.mflops,
    )  # fmt: skip
    return list(told)


def text(folder):
    return (folder / "records.jsonl").read_bytes()


@pytest.fixture
def whole(small, tmp_path):
    (tmp_path / "whole").mkdir()
    records = run(small, tmp_path / "whole", Judges(small))
    assert [record.n for record in records] == list(range(30))
    return text(tmp_path / "whole")


@pytest.mark.parametrize("name", ["optuna:nsga2", "optuna:nsga3", "optuna:random", "spos", "exhaustive"])
def test_a_generation_at_once_is_the_same_search_as_one_by_one(small, tmp_path, name):
    sizes = []
    for batch in (None, 1):

        def counting(plan, judge=Judges(small)):  # noqa: B008
            sizes.append(len(plan))
            return judge(plan)

        (tmp_path / str(batch)).mkdir()
        run(small, tmp_path / str(batch), counting, batch=batch, name=name)
    assert text(tmp_path / "None") == text(tmp_path / "1")
    assert max(sizes) >= 10


def test_stopped_after_every_group_nothing_is_lost_or_evaluated_twice(small, tmp_path, whole):
    evaluated = []
    for seed in range(100):
        judge = Judges(small, seed, limit=1)
        try:
            run(small, tmp_path, judge)
        except StopError:
            evaluated += judge.evaluated
            with (tmp_path / "records.jsonl").open("a") as file:
                file.write('{"n": ')  # as a kill in the middle of a line leaves it
            continue
        evaluated += judge.evaluated
        break
    assert text(tmp_path) == whole
    assert len(evaluated) == len(set(evaluated)) == 30
    assert not (tmp_path / "ahead.jsonl").exists()


@pytest.mark.filterwarnings("ignore:.*experimental")
@pytest.mark.parametrize("name", CONTROLLERS)
def test_killed_after_every_fourth_record_any_controller_goes_on_with_the_same_bytes(tmp_path, name):
    if name.startswith("nni:"):
        pytest.importorskip("nni", reason="NNI is not installed: pip install -c constraints.txt -e '.[nni]'")
    if name == "optuna:gp":
        pytest.importorskip("scipy", reason="Optuna's Gaussian process needs scipy")
    tiny, trials = load_space("tiny"), 13 if name == "optuna:gp" else 26  # half a second a proposal from the 11th on
    (tmp_path / "whole").mkdir()
    run(tiny, tmp_path / "whole", Judges(tiny), trials=trials, name=name)
    for start in range(4, trials + 4, 4):
        with suppress(StopError):
            run(tiny, tmp_path, Judges(tiny, start, limit=4, at_once=1), trials=trials, name=name)
        logs = RecordLog(tmp_path / "records.jsonl", tiny), Ahead(tmp_path / "ahead.jsonl", tiny)
        assert len({record.n for log in logs for record in log.read()}) == min(start, trials)
    assert text(tmp_path) == text(tmp_path / "whole")


def test_records_that_workers_handed_in_before_are_not_evaluated_again(small, tmp_path, whole):
    log = RecordLog(tmp_path / "records.jsonl", small)
    log.path.write_bytes(whole)
    found = log.read()[3:8]
    log.path.unlink()
    judge = Judges(small)
    run(small, tmp_path, judge, found=found)
    assert text(tmp_path) == whole
    assert len(judge.evaluated) == 25


def test_more_trials_go_on_as_if_there_had_been_more_at_first(small, tmp_path, whole):
    for trials in (7, 13, 30, 20):
        run(small, tmp_path, Judges(small), trials=trials)
    assert text(tmp_path) == whole


def test_it_ends_where_nothing_is_left(small, tmp_path):
    records = run(small, tmp_path, Judges(small), trials=10_000, name="exhaustive")
    assert len(records) == small.count()


def test_records_of_another_search_are_refused_and_stay(small, tmp_path, whole):
    log = RecordLog(tmp_path / "records.jsonl", small)
    log.path.write_bytes(whole)
    other = log.read()[20]
    log.path.unlink()
    log.append(Record(0, other.arch, other.mflops, other.params_m, other.galleries, other.homogeneous))
    before = text(tmp_path)
    with pytest.raises(RunError, match=r"line 1 is .* where the controller proposes .* of another search"):
        run(small, tmp_path, Judges(small))
    assert text(tmp_path) == before


def test_a_full_disk_is_one_line_and_what_was_written_stays(small, tmp_path, whole, monkeypatch):
    room, sync = [12], os.fsync

    def full(descriptor):
        if not room[0]:
            raise OSError(28, "No space left on device")
        room[0] -= 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*: No space left on device; .* make room and repeat"):
        run(small, tmp_path, Judges(small))
    assert len(RecordLog(tmp_path / "records.jsonl", small).read()) > 0
    room[0] = 1000
    run(small, tmp_path, Judges(small))
    assert text(tmp_path) == whole


def test_a_round_is_as_long_as_proposals_do_not_depend_on_results(small, tmp_path):
    sizes = []

    class Counting(Judges):
        def __call__(self, plan):
            sizes.append(len(plan))
            return super().__call__(plan)

    run(small, tmp_path, Counting(small), trials=45)
    assert sizes == [12, 10, 10, 10, 3]  # the first generation follows the two ends of the front
