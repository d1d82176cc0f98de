"""A search with workers ends with the same bytes as one without."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cmpnas.cli.app import main
from tests.conftest import QUICK

RECIPE = (*QUICK, "search.controller=optuna:nsga2")  # a generation is a round
SETTINGS = [argument for setting in RECIPE for argument in ("--set", setting)]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["search", *SETTINGS, "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def unsearched(searched, tmp_path):
    """The same run before its search."""
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    for name in ("records.jsonl", "front.json", "front.png"):
        (folder / name).unlink()
    return folder


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def workers_of(folder: Path) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"worker" in command and str(folder).encode() in command:
            found.append(int(place.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to find the workers")
def test_killed_with_its_workers_and_resumed_it_ends_with_the_same_bytes(searched, unsearched):
    command = [sys.executable, "-m", "cmpnas", "search", *SETTINGS, "--run", str(unsearched), "--resume"]
    search = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while not (unsearched / "records.jsonl").exists() and search.poll() is None:
            time.sleep(0.02)
        search.send_signal(signal.SIGKILL)
        search.wait()
    finally:
        end(search)
    start = time.monotonic()
    while workers_of(unsearched):  # they end with the search, however it ended
        assert time.monotonic() - start < 60
        time.sleep(0.1)
    assert main([*command[3:]]) == 0
    for name in ("records.jsonl", "front.json"):
        assert (unsearched / name).read_bytes() == (searched / name).read_bytes()
    assert not (unsearched / "records.ahead.jsonl").exists()


def test_a_worker_elsewhere_evaluates_everything(searched, unsearched, tmp_path, capsys):
    storage = f"journal:{tmp_path / 'tasks'}"
    command = [sys.executable, "-m", "cmpnas", "worker", str(unsearched), "--json"]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"CMPNAS_STORAGE": storage})
    try:
        arguments = ["search", *SETTINGS, "--run", str(unsearched), "--resume", "--storage", storage]
        assert main(arguments) == 0
        assert f"cmpnas worker {unsearched} --storage URL" in capsys.readouterr().err
        assert json.loads(worker.communicate(timeout=60)[0]) == {"evaluated": 8}
    finally:
        end(worker)
    for name in ("records.jsonl", "front.json"):
        assert (unsearched / name).read_bytes() == (searched / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["search", "--workers", "0"],
            "--workers 0: at least 1 must evaluate, or be started elsewhere with a --storage",
        ),
        (
            ["search", "--workers", "2", "--storage", "redis://host"],
            "unknown storage 'redis://host'; give one of journal:",
        ),
        (["search", "--engine", "nnj"], "unknown engine 'nnj'. Did you mean 'nni'?"),
        (["search", "--nni-config", "x.yaml"], "--nni-config is for --engine nni"),
        (["worker"], "name the one that the search was given with --storage"),
        (["worker", "--storage", "sqlite:///x"], "unknown storage 'sqlite:///x'"),
    ],
)
def test_mistakes_are_one_line(unsearched, arguments, message, capsys, monkeypatch):
    monkeypatch.delenv("CMPNAS_STORAGE", raising=False)
    command, *rest = arguments
    where = [*SETTINGS, "--run", str(unsearched), "--resume"] if command == "search" else [str(unsearched)]
    assert main([command, *where, *rest]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_a_worker_with_other_weights_is_refused(unsearched, tmp_path, capsys):
    import torch

    storage = f"journal:{tmp_path / 'tasks'}"
    from cmpnas.pipeline.stages import Stages
    from cmpnas.search.tasks import Tasks

    stages = Stages.of_run(unsearched, None, print)
    Tasks(storage, stages.space, stages.run.study, stages.judge_key)
    state = torch.load(unsearched / "supernet.pt", weights_only=True)
    torch.save(state | {"more": 1}, unsearched / "supernet.pt")
    assert main(["worker", str(unsearched), "--storage", storage]) == 2
    assert "is of another run" in capsys.readouterr().err


def test_a_worker_before_the_supernet_is_told_to_wait(unsearched, tmp_path, capsys):
    (unsearched / "supernet.pt").unlink()
    assert main(["worker", str(unsearched), "--storage", f"journal:{tmp_path / 'tasks'}"]) == 2
    assert "has no supernet.pt yet; start workers when the search says so" in capsys.readouterr().err


def test_workers_take_gpus_in_turn(monkeypatch):
    import torch

    from cmpnas.pipeline.workers import one_gpu

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for count, expected in ((0, [{}] * 3), (1, [{}] * 3), (2, [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in "010"])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert [one_gpu(number) for number in range(3)] == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert one_gpu(1) == {"CUDA_VISIBLE_DEVICES": "7"}


def test_races_end_alike_whoever_runs_them(unsearched, tmp_path, capsys):
    """What is stopped follows from the records, so workers stop the same; none of it comes into the front."""
    settings = [*SETTINGS, "--set", "search.racing=0.5", "--set", "search.trials=60"]
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, workers in zip(folders, ("1", "2"), strict=True):
        shutil.copytree(unsearched, folder)
        shutil.copy(folder / "recipe.yaml", tmp_path / "old.yaml")
        (folder / "recipe.yaml").write_text((tmp_path / "old.yaml").read_text().replace("racing: null", "racing: 0.5"))
        assert main(["search", *settings, "--run", str(folder), "--resume", "--workers", workers]) == 0
    for name in ("records.jsonl", "front.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    records = [json.loads(line) for line in (folders[0] / "records.jsonl").read_text().splitlines()]
    stopped = {record["query"]["id"] for record in records if "raced" in record}
    assert stopped
    assert f"search: {len(stopped)} of 60 could not enter the front and were stopped early" in capsys.readouterr().err
    front = json.loads((folders[0] / "front.json").read_text())
    assert not stopped & {pair["query"]["id"] for pair in front["pairs"]}
    assert main(["plot", str(folders[0]), "--out", str(tmp_path / "front.svg")]) == 0
