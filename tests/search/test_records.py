"""The log survives crashes and refuses what is not its own; the front is what brute force says."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.errors import RunError
from cmpnas.files import drop_partial_line
from cmpnas.retrieval import evaluate_scores
from cmpnas.search import RecordLog, non_dominated, pick
from cmpnas.search.front import build_front
from cmpnas.search.records import Ahead, PairScore, Record


def records(space, count):
    rng, seen = random.Random(0), []
    while len(seen) < count:
        if (arch := space.sample(rng)) not in seen:
            seen.append(arch)
    return [
        Record(n, arch, space.cost(arch).mflops, space.cost(arch).params_m,
               {"g": PairScore(rng.random(), (0.1, 1 / 3))}, rng.random())
        for n, arch in enumerate(seen)
    ]  # fmt: skip


def test_round_trip_is_exact(small, tmp_path):
    log = RecordLog(tmp_path / "records.jsonl", small)
    written = records(small, 5)
    for record in written:
        log.append(record)
    assert log.read() == written


def test_a_line_cut_short_is_dropped_and_the_next_append_is_clean(small, tmp_path):
    log = RecordLog(tmp_path / "records.jsonl", small)
    written = records(small, 3)
    for record in written[:2]:
        log.append(record)
    with log.path.open("a") as file:
        file.write('{"n": 2, "query": {"id": "w8')
    assert log.read() == written[:2]
    assert log.path.read_text().endswith("w8")  # reading changes nothing: another process may be writing
    drop_partial_line(log.path)
    log.append(written[2])
    assert log.read() == written


def test_what_was_finished_ahead_is_not_of_another_key(small, tmp_path):
    """A first record may lack when a search is killed; those after it are kept for the same key alone."""
    log, ahead = RecordLog(tmp_path / "records.jsonl", small), Ahead(tmp_path / "records.ahead.jsonl", small)
    log.must_be_of("one")
    ahead.add(records(small, 3)[2])
    log.must_be_of("one")
    assert len(ahead.read()) == 1
    log.must_be_of("two")
    assert not ahead.read()
    log.append(records(small, 1)[0])
    with pytest.raises(RunError, match="by other weights, files or latencies"):
        log.must_be_of("one")


def test_damaged_lines_are_named(small, tmp_path):
    log = RecordLog(tmp_path / "records.jsonl", small)
    first = records(small, 1)[0]
    log.append(first)
    log.append(first)
    with pytest.raises(
        RunError,
        match="line 2 is out of order or repeats an architecture; remove it and all lines after it, and use --resume",
    ):
        log.read()
    log.path.write_text("nonsense\n")
    with pytest.raises(RunError, match="line 1 is not a record"):
        log.read()
    line = json.dumps(first.to_json() | {"homogeneous": math.nan})
    log.path.write_text(f"{line}\n")
    with pytest.raises(RunError, match=r"line 1 is not a record \(it holds NaN\)"):
        log.read()


@pytest.mark.parametrize("seed", range(10))
def test_front_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    scores, costs = rng.integers(8, size=40) / 8, rng.integers(1, 9, size=40) / 2

    def beaten(i):
        return any(
            scores[j] >= scores[i] and costs[j] <= costs[i]
            and ((scores[j], costs[j]) != (scores[i], costs[i]) or j < i)
            for j in range(40)
        )  # fmt: skip

    assert sorted(non_dominated(scores, costs)) == [i for i in range(40) if not beaten(i)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kinds", [1, 3])
def test_front_of_several_costs_equals_brute_force(seed, kinds):
    rng = np.random.default_rng(seed)
    scores, costs = rng.integers(6, size=60) / 6, rng.integers(1, 1 + 2 * kinds, size=(60, kinds)) / 2

    def beaten(i):
        return any(
            scores[j] >= scores[i] and (costs[j] <= costs[i]).all()
            and (scores[j] != scores[i] or (costs[j] != costs[i]).any() or j < i)
            for j in range(60)
        )  # fmt: skip

    assert sorted(non_dominated(scores, costs)) == [i for i in range(60) if not beaten(i)]
    assert non_dominated(np.empty(0), np.empty((0, kinds))).tolist() == []


@pytest.mark.parametrize(("ratio", "galleries"), [(0.0, {"dear"}), (0.5, {"dear", "cheap"})])
def test_a_cheap_gallery_is_on_the_front_where_indexing_counts(small, ratio, galleries):
    written = [
        replace(record, galleries={"cheap": PairScore(0.1 * n, (0, 1)), "dear": PairScore(0.1 * n + 0.05, (0, 1))})
        for n, record in enumerate(sorted(records(small, 5), key=lambda record: record.mflops))
    ]
    front = build_front(
        written, recipe="r", budget=Budget(), metric="map@r", indexed_per_query=ratio,
        galleries={name: {"name": name, "kind": "onnx", "mflops": m} for name, m in (("cheap", 2.0), ("dear", 9.0))},
        paragon={"gallery": "dear", "mflops": 9.0, "score": 1.0},
    )  # fmt: skip
    assert {pair["gallery"]["name"] for pair in front["pairs"]} == galleries
    for pair in front["pairs"]:
        assert pair["amortised_mflops"] == pytest.approx(pair["query"]["mflops"] + ratio * pair["gallery"]["mflops"])
    assert front["indexed_per_query"] == ratio


def test_every_number_of_a_front(small):
    """The first loses by going to the large encoder's index, the second gains."""
    cheap, dear = sorted(small.extremes(), key=lambda arch: small.cost(arch).macs)
    written = [
        Record(0, dear, 4.0, 0.5, {"g": PairScore(0.75, (0.7, 0.8))}, 0.5, latency_ms=3.0),
        Record(1, cheap, 2.0, 0.25, {"g": PairScore(0.375, (0.25, 0.5))}, 0.5),
    ]
    gallery, paragon = {"name": "g", "kind": "onnx", "mflops": 16.0}, {"gallery": "g", "mflops": 16.0, "score": 0.875}
    front = build_front(
        written, recipe="r", budget=Budget(5.0), metric="map@r", galleries={"g": gallery}, paragon=paragon,
        indexed_per_query=0.25,
    )  # fmt: skip
    names = ("space", "id", "arch", "mflops", "params_m", "latency_ms")
    first, second = (
        dict(zip(names, ("small", arch.id, arch.to_json(), *numbers), strict=True))
        for arch, *numbers in ((cheap, 2.0, 0.25, None), (dear, 4.0, 0.5, 3.0))
    )
    assert front == {
        "schema": 1, "recipe": "r", "budget": {"mflops": 5.0}, "metric": "map@r", "indexed_per_query": 0.25,
        "galleries": [gallery], "paragon": paragon,
        "pairs": [
            {
                "query": first, "gallery": gallery,
                "scores": {"homogeneous": 0.5, "heterogeneous": 0.375, "interval": [0.25, 0.5]},
                "compatible": False, "reward": {"r1": 0.5, "r2": 0.375, "r3": 0.1875},
                "amortised_mflops": 6.0, "cost_reduction": 8.0, "paragon_gap": 0.5,
            },
            {
                "query": second, "gallery": gallery,
                "scores": {"homogeneous": 0.5, "heterogeneous": 0.75, "interval": [0.7, 0.8]},
                "compatible": True, "reward": {"r1": 0.5, "r2": 0.75, "r3": 0.375},
                "amortised_mflops": 8.0, "cost_reduction": 4.0, "paragon_gap": 0.125,
            },
        ],
    }  # fmt: skip


def test_rewriting_keeps_order_and_adds_scores(small, tmp_path):
    log = RecordLog(tmp_path / "records.jsonl", small)
    written = records(small, 3)
    for record in written:
        log.append(record)
    more = [replace(record, galleries={**record.galleries, "h": PairScore(0.5, (0, 1))}) for record in written]
    log.rewrite(more)
    assert log.read() == more
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_picks_by_name():
    points = [(1.0, 0.50), (2.0, 0.80), (4.0, 0.85), (8.0, 0.86)]
    front = {
        "pairs": [
            {"query": {"id": f"w{c:g}", "mflops": c}, "scores": {"heterogeneous": s}, "cost_reduction": 100 / c}
            for c, s in points
        ]
    }
    assert pick(front, "best")["query"]["id"] == "w8"
    assert pick(front, "cheapest")["query"]["id"] == "w1"
    assert pick(front, "knee")["query"]["id"] == "w2"
    assert pick(front, "w4")["query"]["id"] == "w4"
    assert pick(front, "20x")["query"]["id"] == "w4"
    assert pick(front, "25.5x")["query"]["id"] == "w2"
    with pytest.raises(RunError, match=r"no pair is 200 times cheaper than the paragon; the cheapest is 100\.0 times"):
        pick(front, "200x")
    with pytest.raises(RunError, match=r"unknown pick 'bst'. Did you mean 'best'"):
        pick(front, "bst")


@pytest.mark.parametrize(
    ("points", "knee"),
    [
        ([(2.0, 0.5)], 0),
        ([(2.0, 0.5), (2.0, 0.75)], 1),  # a query network against two galleries
        ([(4.0, 0.5), (2.0, 0.5)], 1),
    ],
)
def test_the_knee_where_pairs_do_not_differ(points, knee):
    pairs = [{"query": {"id": "w", "mflops": c}, "scores": {"heterogeneous": s}} for c, s in points]
    with np.errstate(all="raise"):
        assert pick({"pairs": pairs}, "knee") is pairs[knee]


def test_rewards_are_the_papers_three(small):
    record = Record(0, small.extremes()[0], 1.0, 1.0, {"g": PairScore(0.25, (0, 1)), "h": PairScore(1.0, (0, 1))}, 0.5)
    assert [record.reward("g", which) for which in ("r1", "r2", "r3")] == [0.5, 0.25, 0.125]
    assert record.reward("h", "r2") == 1.0


def test_the_first_score_is_of_the_first_queries_that_find_something():
    """Every other query has no answer, so that a query's place among those that count is not its row."""
    labels, rng = np.array([0, 9, 1, 9, 2, 9, 0, 9, 1]), np.random.default_rng(0)
    scores = evaluate_scores(rng.random((9, 6)), labels, np.array([0, 1, 2, 0, 1, 2]), ["map@r", "mrr@6"])
    first, values, place = np.array([0, 4, 5, 6]), [], 0
    for row, label in enumerate(labels):
        if label != 9:
            if row in first:
                values.append(scores.per_query("mrr@6")[place])
            place += 1
    found = PairScore.of(scores, "mrr@6", first)
    assert len(values) == 3
    assert found == PairScore(scores["mrr@6"], scores.interval("mrr@6"), pytest.approx(np.mean(values)))
    assert PairScore.of(scores, "mrr@6").first is None
