"""Searches on a table: what a controller is restored from, what it reaches, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from cmpnas.cli.app import main
from cmpnas.cost import Budget
from cmpnas.errors import CmpnasError
from cmpnas.files import drop_partial_line
from cmpnas.pipeline.replay import read_recording
from cmpnas.search.controllers import CONTROLLERS, find_controller
from cmpnas.search.feasible import Table, Within
from cmpnas.search.front import non_dominated
from cmpnas.search.records import PairScore, Record, RecordLog
from cmpnas.search.replay import Recording
from cmpnas.space import load_space

RESUMED = [name for name in CONTROLLERS if name != "optuna:gp" and not name.startswith("nni:")]


def score(space, arch) -> float:
    genes = space.genes([arch])[0]
    return float(np.sin(genes * np.arange(1, len(genes) + 1)).sum() / 20 + genes.sum() / 40)


def record(space, n, arch) -> Record:
    """As an evaluation gives it, with floats that JSON has to carry to the last bit."""
    cost, said = space.cost(arch), score(space, arch)
    return Record(n, arch, cost.mflops, cost.params_m, {"g": PairScore(said, (said - 0.1, said + 0.1))}, said / 3)


def search(path, space, name, trials):
    """Ask, evaluate, record, tell, up to ``trials`` records; what the file holds is told and not evaluated."""
    controller = find_controller(name)(Within(space, Budget(1.0)), population=8, seed=3)
    log = RecordLog(path, space)
    drop_partial_line(log.path)
    known = log.read()
    for n in range(trials):
        arch = controller.ask()
        assert arch is not None
        if n < len(known):
            assert known[n].arch == arch
        else:
            log.append(record(space, n, arch))
        said = (known + log.read()[len(known) :])[n]
        controller.tell(arch, said.reward("g", "r2"), said.mflops)


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.filterwarnings("ignore:.*experimental")
def test_interrupted_after_any_record_it_ends_the_same(tmp_path, name):
    space, trials = load_space("tiny"), 13
    search(tmp_path / "whole.jsonl", space, name, trials)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    for kept in range(1, trials, 3):
        path = tmp_path / f"{kept}.jsonl"
        lines = whole.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:kept]) + lines[kept][:40])  # killed while it wrote the next
        search(path, space, name, trials)
        assert path.read_bytes() == whole


@pytest.fixture(scope="module")
def recording() -> Recording:
    space = load_space("mobile_small")
    drawn = space.sample_many(300, 0, over="cost")
    archs = list({drawn[n]: None for n in range(300)})
    mflops = np.array([space.cost(arch).mflops for arch in archs])
    return Recording(space, archs, mflops, np.array([score(space, arch) for arch in archs]) + np.log(mflops))


def test_a_table_gives_its_own_and_the_nearest(recording):
    table = recording.table
    assert table.ends() == (recording.archs[recording.costs.argmin()], recording.archs[recording.costs.argmax()])
    assert all(table.nearest(dict(arch.choices)) == arch for arch in recording.archs[:20])
    assert set(recording.archs) >= {table.arch(genes) for genes in table.draw(50, 0, "cost").genes}
    capped = table.capped(2.0)
    assert len(capped.archs) == (recording.costs <= 2.0).sum()
    # One step away from an architecture of the table, where nothing else is as near.
    space, arch = recording.space, recording.archs[0]
    lone = Table(space, [arch, space.extremes()[1]], [1.0, 2.0])
    choices = dict(arch.choices)
    name = next(name for name in choices if len(space.decisions[name]) > 1)
    other = next(value for value in space.decisions[name] if value != choices[name])
    assert lone.nearest(choices | {name: other}) == arch


def test_the_whole_table_is_its_hypervolume(recording):
    found = recording.search(find_controller("exhaustive"), 1000, population=8, seed=0)
    assert sorted(found.asked) == list(range(len(recording.archs)))
    assert found.shares[-1] == pytest.approx(1)
    assert (np.diff(found.shares) >= -1e-12).all()
    assert len(found.shares) == 1000
    front = non_dominated(recording.scores, recording.costs)
    assert recording.shares(front, len(front))[-1] == pytest.approx(1)


@pytest.fixture
def records(tmp_path, recording):
    """A file of records of a space that comes with the package."""
    log = RecordLog(tmp_path / "records.jsonl", recording.space)
    for n, arch in enumerate(recording.archs[:60]):
        log.append(record(recording.space, n, arch))
    return log.path


def test_replay_from_the_command_line(records, capsys):
    arguments = ["replay", str(records), "--controller", "optuna:nsga2", "--controller", "exhaustive"]
    assert main([*arguments, "--seeds", "2", "--trials", "100", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["trials"] == 60
    for entry in result["controllers"].values():
        lower, median, upper = np.array(entry["shares"])
        assert (lower <= median).all()
        assert (median <= upper).all()
        assert median[-1] == pytest.approx(1)
    assert records.with_name("replay.png").stat().st_size > 10_000
    assert main([*arguments, "--seeds", "1", "--trials", "20", "--out", str(records.with_name("a.svg"))]) == 0
    assert "60 architectures of space 'mobile_small'" in capsys.readouterr().out


def test_what_was_stopped_early_is_not_replayed(records, recording):
    arch = next(arch for arch in recording.archs[60:] if arch not in recording.archs[:60])
    stopped = replace(record(recording.space, 60, arch), homogeneous=math.nan, raced=128)
    RecordLog(records, recording.space).append(stopped)
    assert list(read_recording(records)[0].archs) == recording.archs[:60]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{records}", "--controller", "magic"], "unknown controller 'magic'"),
        (["{records}", "--controller", "spos", "--seeds", "0"], "at least one trial and one seed; got 100 and 0"),
        (["{records}", "--controller", "spos", "--out", "a.gif"], "cannot plot to 'a.gif'"),
        (["nothing.jsonl", "--controller", "spos"], "neither a run folder nor a file of records"),
        ([".", "--controller", "spos"], "is not a run folder"),
        (["one.jsonl", "--controller", "spos"], "there is no front to find"),
        (["dear.jsonl", "--controller", "spos"], "nothing between the cheapest and the dearest is on the front"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_a_line(records, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(records.parent)
    records.with_name("one.jsonl").write_bytes(records.read_bytes().splitlines(keepends=True)[0])
    lines = sorted(map(json.loads, records.read_text().splitlines()), key=lambda line: line["query"]["mflops"])
    chosen = [lines[0], lines[len(lines) // 2], lines[-1]]
    for n, (line, score) in enumerate(zip(chosen, (0.1, 0.05, 0.2), strict=True)):
        line["n"] = n
        for of_gallery in line["galleries"].values():
            of_gallery |= {"heterogeneous": score, "interval": [score, score]}
    records.with_name("dear.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))
    assert main(["replay", *[argument.format(records=records) for argument in arguments]]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda table: [table.archs[0]] * 2, "was proposed before"),
        (lambda table: [load_space("shufflenet").extremes()[0]], "is not recorded"),
        (lambda table: [], "proposes nothing"),
    ],
)
def test_a_controller_that_breaks_its_promises_is_not_compared(ask, message):
    space = load_space("tiny")
    drawn = space.sample_many(30, 0)
    archs = list(dict.fromkeys(drawn[n] for n in range(30)))
    scores = np.array([score(space, arch) for arch in archs])
    recording = Recording(space, archs, np.array([space.cost(arch).mflops for arch in archs]), scores)

    class Own:
        def __init__(self, feasible, *, population, seed):
            self.plan = iter(ask(feasible))

        def ask(self):
            return next(self.plan, None)

        def tell(self, *_): ...

    with pytest.raises(CmpnasError, match=message):
        recording.search(Own, 5, population=4, seed=0)
    with pytest.raises(CmpnasError, match="cannot be made"):
        recording.search(lambda feasible: Own, 5, population=4, seed=0)
