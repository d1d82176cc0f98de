"""Runs with made-up scores: enough for pictures and pages."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks.made_up import make_run
from cmpnas.files import write_json


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """One gallery, 40 architectures."""
    return make_run(tmp_path_factory.mktemp("made") / "one", 40, space="mobile_small", size=32).path


@pytest.fixture(scope="session")
def two_galleries(tmp_path_factory):
    """Two galleries, of which the second is better."""
    folder = tmp_path_factory.mktemp("made") / "two"
    return make_run(folder, 30, space="mobile_small", size=32, seed=1, galleries=("resnet", "fusion")).path


@pytest.fixture
def timed(made_up, tmp_path):
    """A search within milliseconds, whose table is not there any more."""
    run = shutil.copytree(made_up, tmp_path / "timed")
    recipe = (run / "recipe.yaml").read_text()
    assert "budget_latency_ms: null" in recipe
    recipe = recipe.replace("budget_latency_ms: null", "budget_latency_ms: 9.0")
    (run / "recipe.yaml").write_text(recipe.replace("latency_table: null", "latency_table: gone.json"))
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    front = json.loads((run / "front.json").read_text())
    for entry in (*lines, *front["pairs"]):
        entry["query"]["latency_ms"] = entry["query"]["mflops"] / 4
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(run / "front.json", front | {"budget": {"latency_ms": 9.0}})
    return run


def evaluated(split):
    """What `cmpnas evaluate` leaves of one finished network, with made-up scores."""
    score = {"scores": {"map@r": 0.6, "hit@1": 0.7}, "intervals": {"map@r": [0.5, 0.7], "hit@1": [0.6, 0.8]}}
    names = {
        "paragon       M(g,g)": ("paragon", None, "resnet"),
        "heterogeneous M(q,g)  q1": ("heterogeneous", "q1", "resnet"),
        "homogeneous   M(q,q)  q1": ("homogeneous", "q1", None),
        "untrained     M(u,g)  u1": ("untrained", "u1", "resnet"),
    }
    systems = [
        {"kind": kind, "query": query, "gallery": gallery, "name": name, "mflops": 1.5, **score}
        for name, (kind, query, gallery) in names.items()
    ]
    return {
        "split": split, "queries": 9, "excluded_queries": 0, "gallery_items": 5, "chance": {"hit@1": 0.1},
        "metrics": ["map@r", "hit@1"], "systems": systems,
        "verdicts": [
            {"query": "q1", "id": "w1", "gallery": "resnet", "kind": "heterogeneous", "text": "q1 = w1: <compatible>"}
        ],
    }  # fmt: skip
