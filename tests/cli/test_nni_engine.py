"""A search as a real experiment of NNI: its web page answers, its records are those of any other engine."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from cmpnas.cli.app import main
from cmpnas.search.records import Proposal
from cmpnas.search.storage import open_storage
from tests.conftest import QUICK

SETTINGS = [argument for setting in (*QUICK, "search.batch=2") for argument in ("--set", setting)]


def test_without_nni_it_is_one_line(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "nni", None)
    assert main(["search", *SETTINGS, "--run", str(tmp_path / "run"), "--engine", "nni"]) == 2
    assert "NNI cannot be imported" in (error := capsys.readouterr().err)
    assert "run: pip install" in error
    assert not (tmp_path / "run").exists()


def test_an_experiment_gives_the_records_of_the_local_engine(tmp_path, capsys, monkeypatch):
    pytest.importorskip("nni", reason="NNI is not installed: pip install -c constraints.txt -e '.[nni]'")
    psutil = pytest.importorskip("psutil")
    monkeypatch.setenv("HOME", str(tmp_path))  # where NNI lists its experiments
    alone, folder = tmp_path / "alone", tmp_path / "run"
    assert main(["search", *SETTINGS, "--run", str(alone)]) == 0
    shutil.copytree(alone, folder)
    for name in ("records.jsonl", "front.json", "front.png"):
        (folder / name).unlink()
    capsys.readouterr()
    pages: dict[str, object] = {}

    def look() -> None:
        """Ask the manager for its page and its state while it works."""
        while len(pages) < 2:
            time.sleep(0.2)
            for page in ("", "api/v1/nni/experiment"):
                with suppress(OSError), urlopen(f"http://127.0.0.1:{port_of(psutil)}/{page}", timeout=5) as answer:
                    content = answer.read()
                    if page == "" or content.startswith(b"{"):  # nothing until the experiment is set up
                        pages[page] = content

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    arguments = ["search", *SETTINGS, "--run", str(folder), "--resume", "--engine", "nni", "--workers", "2"]
    for _ in range(5):  # NNI gives its tuner ten seconds to start, and a busy machine may need more
        if (status := main(arguments)) == 0:
            break
        assert "NNI's manager ended before the search" in capsys.readouterr().err
    assert status == 0
    looking.join(10)
    assert b"<html" in pages[""].lower()
    assert json.loads(pages["api/v1/nni/experiment"])["params"]["trialConcurrency"] == 2
    assert "listens on all interfaces" in capsys.readouterr().err
    storages = [open_storage(f"journal:{path}") for path in (folder / "nni").glob("tasks.*.journal")]
    assert max(storage.get_n_trials(0) for storage in storages) == 8
    for name in ("records.jsonl", "front.json"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes()
    end = time.monotonic() + 60
    while left := running(psutil, folder):
        assert time.monotonic() < end, left
        time.sleep(0.5)


def running(psutil, folder: Path) -> list[list[str]]:
    """Commands of processes that work in ``folder``: the manager, its dispatcher, trials."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in part for part in command) and "pytest" not in " ".join(command):
            found.append(command)
    return found


def port_of(psutil) -> int:
    """The port that this process's child, the manager, listens on."""
    for child in psutil.Process().children():
        try:
            command = child.cmdline()
        except psutil.Error:
            continue
        if "--port" in command:
            return int(command[command.index("--port") + 1])
    return 9  # where nobody listens


@pytest.fixture
def feeder(tmp_path, monkeypatch):
    """The tuner without NNI, its tasks as the search sees them, and what it sends."""
    import sys
    import types

    from cmpnas.recipe import load_recipe
    from cmpnas.run import RunFolder
    from cmpnas.search.tasks import Tasks

    for name in ("nni", "nni.tuner", "nni.experiment"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["nni.tuner"].Tuner = object
    sys.modules["nni.experiment"].rest = types.SimpleNamespace(delete=lambda port, path: None)
    monkeypatch.delitem(sys.modules, "cmpnas.pipeline.nni_tuner", raising=False)
    from cmpnas.pipeline.nni_tuner import Feeder

    recipe = load_recipe("quickstart", QUICK)
    RunFolder.begin(tmp_path / "run", recipe, resume=False, data="none")
    storage = f"journal:{tmp_path / 'tasks'}"
    tasks, sent = Tasks(storage, recipe.space(), "study", "key"), {}
    made = Feeder(str(tmp_path / "run"), storage, "study", "key", 9)
    assert made.generate_multiple_parameters([0, 1], st_callback=sent.__setitem__) == []
    yield made, tasks, sent
    monkeypatch.delitem(sys.modules, "cmpnas.pipeline.nni_tuner", raising=False)


def until(holds) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def reported(tasks, content) -> dict:
    """What a trial reports of the parameters that it was really given."""
    from cmpnas.search.records import PairScore, Record

    plan = [(n, tasks.space.from_json(arch)) for n, arch in content["plan"]]
    records = [Record(n, arch, 1.0, 1.0, {"resnet": PairScore(n / 10, (0.0, 1.0))}, 0.5) for n, arch in plan]
    return {"default": 1.0, "plan": content["plan"], "records": [record.to_json() for record in records]}


def test_what_a_trial_reports_counts_and_not_which_trial_nni_takes_it_for(feeder):
    tuner, tasks, sent = feeder
    drawn = tasks.space.sample_many(4, 0)
    first, second = (tasks.put([Proposal(i, drawn[i]), Proposal(i + 1, drawn[i + 1])]) for i in (0, 2))
    until(lambda: len(sent) == 2)
    tuner.receive_trial_result(0, sent[0], reported(tasks, sent[1]))  # the other's
    tuner.trial_end(0, True)
    assert tasks.result(second) == tasks.results()
    assert [record.n for record in tasks.results()] == [2, 3]
    tuner.receive_trial_result(1, sent[1], reported(tasks, sent[0]))
    tuner.trial_end(1, True)
    assert [record.n for record in tasks.result(first)] == [0, 1]


def test_of_trials_that_die_the_tasks_are_given_back(feeder):
    tuner, tasks, sent = feeder
    drawn = tasks.space.sample_many(3, 0)
    lost, done = tasks.put([Proposal(0, drawn[0])]), tasks.put([Proposal(1, drawn[1])])
    until(lambda: len(sent) == 2)
    tuner.trial_end(1, False)  # NNI may name the wrong one, so nothing is concluded yet
    assert len(tasks.unfinished()) == 2
    tuner.receive_trial_result(0, sent[1], reported(tasks, sent[1]))
    tuner.trial_end(0, True)
    assert [record.n for record in tasks.result(done)] == [1]
    assert tasks.result(lost) == "its trial ended without a report"
    wrong = tasks.put([Proposal(2, drawn[2])])
    tuner.generate_multiple_parameters([2], st_callback=sent.__setitem__)
    until(lambda: 2 in sent)
    tuner.receive_trial_result(2, sent[2], {"default": 0.0, "plan": sent[2]["plan"], "error": "no pictures"})
    assert tasks.result(wrong) == "no pictures"
