"""A table that the command line measured serves cost and search; tables that do not fit are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cmpnas.cli.app import main
from cmpnas.cost.latency import LatencyTable, read_latency_table
from cmpnas.recipe import load_recipe
from cmpnas.search.controllers import make_controller
from cmpnas.search.front import build_front, pick
from cmpnas.search.records import PairScore, Record, RecordLog
from cmpnas.space import load_space
from tests.conftest import QUICK


def table_for(space, path):
    """Times that fall as multiply-adds rise, so that limits on them say different things."""
    most = max(cost.macs for _, cost in space.operators.values())
    operators = {name: 0.01 + 0.1 * (1 - cost.macs / most) for name, (_, cost) in space.operators.items()}
    table = LatencyTable(operators, space=space.identity, held_out={"mape": 0.0312})
    table.write(path)
    return table


def test_measure_then_cost(tmp_path, capsys):
    out = tmp_path / "new" / "t.json"
    assert main(["measure", "tiny", "--out", str(out), "--networks", "10", "--rounds", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["operators"], told["held_out"]["networks"]) == (60, 10)
    space = load_space("tiny")
    high = space.extremes()[1]
    (tmp_path / "arch.json").write_text(json.dumps(high.to_json()))
    arguments = ["cost", "tiny", "--latency-table", str(out), "--arch", str(tmp_path / "arch.json")]
    assert main([*arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["architectures"]
    assert row["latency_ms"] == space.timed(read_latency_table(out)).cost(high).latency_ms > 0
    assert row["latency_error"] == told["held_out"]["mape"]
    assert main(arguments) == 0
    assert f"{row['latency_ms']:.4f} ms (mean error {row['latency_error']:.1%})" in capsys.readouterr().out
    assert main(["cost", "tiny", "--latency-table", str(out), "--size", "64"]) == 2
    assert "is of another space (name tiny, size 32" in capsys.readouterr().err


def test_count_within_milliseconds(tmp_path, capsys):
    space = load_space("tiny")
    table_for(space, tmp_path / "t.json")
    arguments = ["cost", "tiny", "--latency-table", str(tmp_path / "t.json"), "--count", "--max-latency-ms", "0.4"]
    assert main([*arguments, "--json"]) == 0
    count = json.loads(capsys.readouterr().out)["count"]
    assert 0 < count < space.count()


def test_an_operator_that_a_phone_did_not_measure_is_named(tmp_path, capsys):
    names = list(load_space("tiny").operators)
    lines = ["operator,ms", *(f'"{name}",1.5' for name in names[:-1])]
    (tmp_path / "phone.csv").write_text("\n".join(lines))
    assert main(["cost", "tiny", "--latency-table", str(tmp_path / "phone.csv")]) == 2
    assert f"operator {names[-1]!r} is not in the latency table" in capsys.readouterr().err


def test_dry_run_within_milliseconds(tmp_path, capsys):
    recipe = load_recipe("quickstart", QUICK)
    table_for(recipe.space(), tmp_path / "t.json")
    quick = [part for override in QUICK for part in ("--set", override)]
    arguments = ["search", "--dry-run", "--latency-table", str(tmp_path / "t.json"), *quick]
    assert main([*arguments, "--budget-latency-ms", "0.6", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["budget"] == {"latency_ms": 0.6}
    assert 0 < int(plan["feasible"].replace(",", "")) < plan["architectures"]
    assert main([*arguments, "--budget-latency-ms", "0.001"]) == 2
    assert "raise --budget-latency-ms" in capsys.readouterr().err


@pytest.fixture
def timed(tmp_path):
    space = load_space("tiny")
    return space.timed(table_for(space, tmp_path / "t.json"))


def records(space, count):
    found = []
    for n, arch in enumerate(dict.fromkeys(space.sample_many(count, 0))):
        cost = space.cost(arch)
        score = PairScore(0.5 + cost.latency_ms / 10, (0.4, 0.6))
        found.append(Record(n, arch, cost.mflops, cost.params_m, {"g": score}, 0.3, cost.latency_ms))
    return found


def test_records_hold_it_and_the_front_is_of_it(timed, tmp_path):
    log, written = RecordLog(tmp_path / "records.jsonl", timed), records(timed, 30)
    for record in written:
        log.append(record)
    assert log.read() == written
    settings = load_recipe("quickstart", (), {
        "search.budget_latency_ms": 2.0, "search.latency_table": str(tmp_path / "t.json"),
    }).search  # fmt: skip
    front = build_front(
        written, recipe="r", budget=settings.budget, metric="map@r",
        galleries={"g": {"name": "g", "kind": "single", "mflops": 50.0}},
        paragon={"gallery": "g", "mflops": 50.0, "score": 0.9},
    )  # fmt: skip
    latencies = [pair["query"]["latency_ms"] for pair in front["pairs"]]
    assert front["budget"] == {"latency_ms": 2.0}
    assert latencies == sorted({record.latency_ms for record in written})  # the slower the better, here
    assert pick(front, "cheapest")["query"]["latency_ms"] == min(latencies)
    assert pick(front, "best")["query"]["latency_ms"] == max(latencies)


def test_without_a_table_records_are_as_they_were():
    space = load_space("tiny")
    arch = space.extremes()[0]
    record = Record(0, arch, 1.0, 0.1, {"g": PairScore(0.5, (0.4, 0.6))}, 0.3)
    assert list(record.to_json()["query"]) == ["id", "arch", "mflops", "params_m"]
    assert record.cost(load_recipe("quickstart").search.budget) == 1.0


def test_a_search_within_milliseconds(tmp_path, capsys, monkeypatch):
    import cmpnas.pipeline.search as module

    space = load_recipe("quickstart", QUICK).space()
    table = table_for(space, tmp_path / "t.json")
    limit = float(np.median(space.timed(table).sample_many(500, 0).ns)) / 1e6
    told = []

    def watched(*arguments, **settings):
        controller = make_controller(*arguments, **settings)
        tell = controller.tell
        controller.tell = lambda arch, score, cost: (told.append(cost), tell(arch, score, cost))
        return controller

    monkeypatch.setattr(module, "make_controller", watched)
    quick = [part for override in QUICK for part in ("--set", override)]
    arguments = ["search", *quick, "--trials", "6", "--run", str(tmp_path / "run"), "--json"]
    assert main([*arguments, "--latency-table", str(tmp_path / "t.json"), "--budget-latency-ms", str(limit)]) == 0
    front = json.loads(capsys.readouterr().out)
    lines = [json.loads(line)["query"] for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    for query in lines:
        layers = space.layers(space.from_json(query["arch"]))
        assert query["latency_ms"] == pytest.approx(sum(table.operators[layer.operator] for layer in layers), rel=1e-3)
    assert told == [query["latency_ms"] for query in lines]
    assert max(told) <= limit
    latencies = [pair["query"]["latency_ms"] for pair in front["pairs"]]
    assert latencies == sorted(latencies)
    table_for(space.resized(size=64), tmp_path / "t.json")
    assert main([*arguments, "--latency-table", str(tmp_path / "t.json"), "--budget-latency-ms", str(limit)]) == 2
    assert "the latency table is of another space" in capsys.readouterr().err
