"""Many workers, on every kind of storage: nothing is lost or doubled, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from cmpnas.errors import RunError
from cmpnas.search import crew as crew_module
from cmpnas.search import tasks as tasks_module
from cmpnas.search.crew import Crew
from cmpnas.search.records import PairScore, Proposal, Record
from cmpnas.search.storage import open_storage, shown
from cmpnas.search.tasks import Tasks
from cmpnas.search.worker import work
from tests import postgres

START = multiprocessing.get_context("fork")


class Stub:
    """An evaluator: a fixed function of the architecture, after some time or never for number ``stuck``."""

    def __init__(self, space, stuck=None, fault=None):
        self.space, self.stuck, self.fault = space, stuck, fault

    def together(self, plan):
        for n, arch, _ in plan:
            if n == self.fault:
                raise RunError(f"{arch.id} is cursed")
            time.sleep(3600 if n == self.stuck else 0.02)
            cost = self.space.cost(arch)
            yield [Record(n, arch, cost.mflops, cost.params_m, {"g": PairScore(n / 100, (0.1, 1 / 3))}, n / 7)]


def score(record):
    return record.reward("g", "r2")


@pytest.fixture(scope="module")
def plan(small):
    drawn = small.sample_many(40, 0)
    archs = list(dict.fromkeys(drawn[i] for i in range(40)))
    return [Proposal(n, arch) for n, arch in enumerate(archs[:24])]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in (("POLL", 0.02), ("BEAT", 0.2), ("GRACE", 3.0)):
        monkeypatch.setattr(crew_module, name, value)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed: pip install 'cmpnas[workers]'")
    with postgres.server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@contextmanager
def proxy(path):
    """A gRPC proxy of Optuna over a journal file."""
    pytest.importorskip("grpc", reason="gRPC is not installed: pip install 'cmpnas[workers]'")
    import socket

    from optuna.storages._grpc.server import make_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = make_server(open_storage(f"journal:{path}"), "127.0.0.1", port)
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(params=["journal", "postgresql"])
def url(request, tmp_path):
    return request.getfixturevalue("database") if request.param == "postgresql" else f"journal:{tmp_path / 'tasks'}"


def open_tasks(url, space, test, key="k"):
    return Tasks(url, space, f"study-{test}", key)


@contextmanager
def workers(url, space, test, *evaluators):
    def target(evaluator):
        work(open_tasks(url, space, test), evaluator, score)

    started = [START.Process(target=target, args=(evaluator,)) for evaluator in evaluators]
    for process in started:
        process.start()
    try:
        yield started
    finally:
        for process in started:
            process.join(20)
            process.kill()


def by_two(plan):
    return [plan[i : i + 2] for i in range(0, len(plan), 2)]


def alone(space, plan):
    return [record for records in Stub(space).together(plan) for record in records]


def gathered(crew, plan):
    return sorted((record for records in crew(plan) for record in records), key=lambda record: record.n)


def test_killed_in_mid_evaluation_its_architectures_go_to_others(url, small, plan, request):
    name = request.node.name
    tasks, found = open_tasks(url, small, name), []
    crew = Crew(tasks, by_two, list)

    def rounds() -> None:
        for part in (plan[:12], plan[12:]):
            found.append(gathered(crew, part))
        crew.close()

    search = threading.Thread(target=rounds)
    search.start()
    with workers(url, small, name, Stub(small, stuck=5)) as (victim,):
        while not any(task.worker and 5 in [proposal.n for proposal in task.plan] for task in tasks.unfinished()):
            time.sleep(0.02)
        with workers(url, small, name, *[Stub(small)] * 3) as others:
            os.kill(victim.pid, signal.SIGKILL)
            search.join()
        assert [process.exitcode for process in others] == [0, 0, 0]
    assert found == [alone(small, plan[:12]), alone(small, plan[12:])]
    assert sorted(record.n for record in tasks.results()) == list(range(24))


def test_over_a_proxy(tmp_path, small, plan):
    with proxy(tmp_path / "tasks") as url:
        crew = Crew(open_tasks(url, small, "proxy"), by_two, list)
        threads = [
            threading.Thread(target=work, args=(open_tasks(url, small, "proxy"), Stub(small), score)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        assert gathered(crew, plan) == alone(small, plan)
        crew.close()
        for thread in threads:
            thread.join()


def test_a_known_death_is_not_waited_for(tmp_path, small, plan, monkeypatch):
    monkeypatch.setattr(crew_module, "GRACE", 3600)
    url, dead, found = f"journal:{tmp_path / 'tasks'}", [], []
    tasks, tasks_of_the_dead = (open_tasks(url, small, "death") for _ in range(2))
    crew = Crew(tasks, by_two, lambda: dead)
    search = threading.Thread(target=lambda: found.extend(gathered(crew, plan)))
    search.start()
    while tasks_of_the_dead.claim("gone") is None:
        time.sleep(0.02)
    dead.append("gone")
    with workers(url, small, "death", Stub(small)):
        search.join()
        crew.close()
    assert found == alone(small, plan)


def test_what_comes_too_late_is_left_out(tmp_path, small, plan):
    tasks = open_tasks(f"journal:{tmp_path / 'tasks'}", small, "late")
    tasks.put(plan[:2])
    task = tasks.claim("slow")
    assert tasks.fail(task, "taken away")
    assert not tasks.beat(task, 3)
    assert not tasks.finish(task, alone(small, plan[:2]), score)
    assert tasks.results() == []


def test_a_search_that_starts_again_takes_what_was_handed_in_and_withdraws_the_rest(tmp_path, small, plan):
    url = f"journal:{tmp_path / 'tasks'}"
    tasks = open_tasks(url, small, "again")
    for part in by_two(plan[:6]):
        tasks.put(part)
    first, second = tasks.claim("a"), tasks.claim("b")
    tasks.finish(first, alone(small, first.plan), score)
    crew = Crew(open_tasks(url, small, "again"), by_two, list)
    found = crew.finished_before()
    assert found == alone(small, plan[:2])
    with workers(url, small, "again", Stub(small)):
        assert gathered(crew, plan[2:8]) == alone(small, plan[2:8])
        crew.close()
    assert not tasks.finish(second, alone(small, second.plan), score)
    assert tasks.unfinished() == []


def test_an_architecture_that_nobody_can_evaluate_is_named(tmp_path, small, plan):
    url = f"journal:{tmp_path / 'tasks'}"
    tasks, arch = open_tasks(url, small, "cursed"), plan[5][1]
    crew, found = Crew(tasks, lambda plan: [plan[:12], plan[12:]], list), []
    with workers(url, small, "cursed", *[Stub(small, fault=5)] * 4):
        message = rf"^{arch.id} could not be evaluated in 3 attempts; the last: .* is cursed$"
        with pytest.raises(RunError, match=message):  # noqa: PT012
            for records in crew(plan):
                found += records
        crew.close()
    assert 5 not in [record.n for record in found]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("sqlite:///x.db", r"unknown storage 'sqlite:///x.db'; give one of journal:FILE, postgresql://.*, grpc://"),
        ("tasks", r"unknown storage 'tasks'; give one of"),
        ("journal:", r"unknown storage 'journal:'"),
        ("journal:/no/such/folder/tasks", r"folder /no/such/folder does not exist; make it"),
        ("grpc://somewhere", r"names no host and port; give grpc://HOST:PORT"),
        (
            "postgresql://me:secret@127.0.0.1:9/x",
            r"postgresql://me:\*\*\*@127.0.0.1:9/x cannot be used \(.*--resume\.$",
        ),
    ],
)
def test_wrong_storages_are_one_line(wrong, message, small):
    for kind, package in (("grpc", "grpc"), ("postgresql", "psycopg")):
        if wrong.startswith(kind):
            pytest.importorskip(package)
    with pytest.raises(RunError, match=message) as fault:
        open_tasks(wrong, small, "wrong")
    assert "secret" not in str(fault.value)
    assert "\n" not in str(fault.value)


def test_missing_drivers_name_the_command(monkeypatch, small):
    from cmpnas.search import storage

    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"needs psycopg; run: pip install -c constraints.txt -e '.\[workers\]'"):
        open_storage("postgresql://me@host/x")


def test_a_study_of_another_run_is_refused(tmp_path, small):
    url = f"journal:{tmp_path / 'tasks'}"
    open_tasks(url, small, "x", key="one")
    with pytest.raises(RunError, match=r"'study-x' of storage .* is of another run \(its key is one, here two\)"):
        open_tasks(url, small, "x", key="two")


def test_a_search_that_has_changed_begins_anew(url, small, plan, request):
    name = request.node.name
    old = open_tasks(url, small, name, key="one")
    old.put(plan[:2])
    old.finish(old.claim("a"), alone(small, plan[:2]), score)
    tasks = Tasks(url, small, f"study-{name}", "two", anew=True)
    assert tasks.results() == tasks.unfinished() == []
    assert Tasks(url, small, f"study-{name}", "two", anew=True).results() == []
    tasks.put(plan[2:4])
    assert [task.plan for task in open_tasks(url, small, name, key="two").unfinished()] == [tuple(plan[2:4])]


def test_a_worker_that_died_as_it_took_its_task_is_noticed(tmp_path, small, plan, monkeypatch):
    url, found = f"journal:{tmp_path / 'tasks'}", []
    tasks, victim = (open_tasks(url, small, "nameless") for _ in range(2))
    crew = Crew(tasks, by_two, list)
    monkeypatch.setattr(crew_module, "GRACE", 0.5)
    monkeypatch.setattr(victim, "_call", lambda what, *rest: what.endswith("attr") or Tasks._call(victim, what, *rest))
    search = threading.Thread(target=lambda: found.extend(gathered(crew, plan)))
    search.start()
    while victim.claim("dies") is None:
        time.sleep(0.02)
    with workers(url, small, "nameless", Stub(small)):
        search.join(timeout=60)
        assert not search.is_alive()
        crew.close()
    assert found == alone(small, plan)


def test_a_storage_that_goes_away_for_good_is_one_line(tmp_path, small, plan, monkeypatch):
    tasks = open_tasks(f"journal:{tmp_path / 'tasks'}", small, "gone")
    monkeypatch.setattr(tasks_module, "_PATIENCE", 0.0)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tasks._storage, "create_new_trial", full)
    with pytest.raises(RunError, match=r"cannot be used \(.*No space left on device\); records are kept .*--resume"):
        next(Crew(tasks, by_two, list)(plan))


def test_passwords_are_not_shown():
    assert shown("postgresql://me:secret@host/x") == "postgresql://me:***@host/x"
    assert shown("postgresql://me@host/x") == "postgresql://me@host/x"
    assert shown("journal:a:b@c") == "journal:a:b@c"
