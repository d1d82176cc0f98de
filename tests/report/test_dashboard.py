"""A run's records as a study, and optuna-dashboard over it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import urllib.request

import optuna
import pytest

from cmpnas.cli.app import main
from cmpnas.pipeline import dashboard
from cmpnas.pipeline.results import query_space, searched
from cmpnas.report.study import study_of
from cmpnas.run import RunFolder


def test_the_best_trials_of_the_study_are_the_front(made_up):
    run = RunFolder.open(made_up)
    study = study_of(searched(run), query_space(run), optuna.storages.InMemoryStorage())
    front = {pair["query"]["id"] for pair in run.read_front()["pairs"]}
    assert {trial.user_attrs["id"] for trial in study.best_trials} == front
    lines = [json.loads(line) for line in run.records.read_text().splitlines()]
    assert [trial.params for trial in study.trials] == [line["query"]["arch"]["choices"] for line in lines]


def test_every_gallery_is_an_objective(two_galleries):
    run = RunFolder.open(two_galleries)
    study = study_of(searched(run), query_space(run), optuna.storages.InMemoryStorage())
    assert study.metric_names == ["map@r against resnet", "map@r against fusion", "MFLOPs"]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE"]


def test_what_the_search_lowered_is_the_cost(timed):
    run = RunFolder.open(timed)
    study = study_of(searched(run), query_space(run), optuna.storages.InMemoryStorage())
    assert study.metric_names == ["map@r against resnet", "ms"]
    assert [trial.values[1] for trial in study.trials] == [record.latency_ms for record in searched(run).records]


def test_it_serves_this_machine_alone_and_says_when_the_port_is_taken(made_up, capsys, monkeypatch):
    pytest.importorskip("optuna_dashboard", reason="needs cmpnas[dashboard]")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["dashboard", str(made_up), "--port", str(port)]) == 2
        assert f"cannot serve at port {port}: Address already in use; name another --port" in capsys.readouterr().err
    said: list[str] = []
    told = threading.Event()
    work = threading.Thread(
        target=dashboard.serve,
        args=(made_up, port),
        kwargs={"ready": lambda m: (said.append(m), told.set())},
        daemon=True,
    )
    work.start()
    assert told.wait(60)
    assert said == [f"http://127.0.0.1:{port}"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=30) as answer:
        studies = json.load(answer)["study_summaries"]
    assert [study["study_name"] for study in studies] == ["one"]


def test_without_the_extra_it_says_what_to_install(made_up, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert main(["dashboard", str(made_up)]) == 2
    error = capsys.readouterr().err
    assert "run: pip install -c constraints.txt -e '.[dashboard]'" in error
    assert error.count("\n") == 1
