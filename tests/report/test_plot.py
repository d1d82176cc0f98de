"""Pictures: what is in them, that they are the same every time, and what cannot be drawn."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest

from cmpnas.cli.app import main
from cmpnas.files import read_json, write_json
from cmpnas.pipeline.results import query_space, searched
from cmpnas.report.anatomy import anatomy
from cmpnas.report.style import LOOKS, look
from cmpnas.run import RunFolder
from tests.report.conftest import evaluated


def plot(capsys, *arguments):
    assert main(["plot", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def markers(svg):
    """How often each marker is drawn in an SVG of matplotlib's: the counts of its ``use`` elements by group."""
    return Counter(Counter(re.findall(r'xlink:href="#(m\w+)"', svg.read_text())).values())


@pytest.mark.parametrize(
    ("kind", "suffix"), [("front", "svg"), ("progress", "svg"), ("arch", "svg"), ("front", "pdf"), ("arch", "png")]
)
def test_the_same_results_give_the_same_file(made_up, tmp_path, kind, suffix, capsys):
    pictures = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.{suffix}"
        assert plot(capsys, made_up, "--kind", kind, "--out", out)["kind"] == kind
        pictures.append(out.read_bytes())
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 5000


def test_every_candidate_is_drawn_once_and_the_front_is_that_of_the_run(made_up, tmp_path, capsys):
    front = json.loads((made_up / "front.json").read_text())
    drawn = plot(capsys, made_up, "--out", tmp_path / "front.svg")
    pairs = len(front["pairs"])
    assert drawn["lines"] == [{"run": "one", "gallery": "resnet", "candidates": 40, "pairs": pairs}]
    counts = markers(tmp_path / "front.svg")
    assert counts[40 + 1] == 1  # homogeneous, and its sign in the legend
    assert counts[40 - pairs + 1] == 1  # heterogeneous beaten by others
    assert counts[pairs + 1] >= 1
    found = searched(RunFolder.open(made_up))
    ids = [found.records[n].arch.id for n in found.best("resnet", "mflops")]
    assert ids == [pair["query"]["id"] for pair in front["pairs"]]


def test_one_line_a_run_and_gallery_told_apart_by_more_than_colour(made_up, two_galleries, tmp_path, capsys):
    drawn = plot(capsys, made_up, two_galleries, "--out", tmp_path / "both.svg")
    assert {pair["gallery"]["name"] for pair in json.loads((two_galleries / "front.json").read_text())["pairs"]} == {
        "fusion"
    }
    assert "white: a pair with another gallery beats it" in (tmp_path / "both.svg").read_text()
    assert [(line["run"], line["gallery"]) for line in drawn["lines"]] == [
        ("one", "resnet"), ("two", "resnet"), ("two", "fusion"),
    ]  # fmt: skip
    looks = [look(n) for n in range(len(LOOKS))]
    assert len({each.marker for each in looks}) == len({str(each.line) for each in looks}) == len(LOOKS)
    assert len({(each.colour, each.marker) for each in map(look, range(30))}) == 30


def test_every_cost_that_the_records_hold(made_up, tmp_path, capsys):
    run = shutil.copytree(made_up, tmp_path / "run")
    front = json.loads((run / "front.json").read_text())
    options = [{"name": "resnet", "kind": "single", "mflops": 100.0}]
    write_json(run / "front.json", front | {"galleries": options, "indexed_per_query": 0.25})
    found = searched(RunFolder.open(run))
    assert (found.costs("amortised", "resnet") - found.costs("mflops", "resnet")).tolist() == pytest.approx([25] * 40)
    assert found.paragon_cost("amortised") == front["paragon"]["mflops"] + 25
    write_json(run / "evaluation.search.json", evaluated("search"))
    for cost in ("params", "amortised"):
        assert plot(capsys, run, "--cost", cost, "--out", tmp_path / "c.png")["cost"] == cost


def test_a_search_within_milliseconds_is_drawn_over_them(timed, tmp_path, capsys):
    drawn = plot(capsys, timed, "--out", tmp_path / "ms.svg")
    assert drawn["cost"] == "latency"
    assert drawn["lines"][0]["pairs"] == len(json.loads((timed / "front.json").read_text())["pairs"])
    assert "budget: 9 ms" in (tmp_path / "ms.svg").read_text()


def test_progress_compares_runs_on_one_scale(made_up, two_galleries, tmp_path, capsys):
    drawn = plot(capsys, made_up, two_galleries, "--kind", "progress", "--out", tmp_path / "p.png")
    plain, fusion = drawn["lines"][1:]
    assert fusion["hypervolume"] > plain["hypervolume"]
    costs = np.concatenate(
        [searched(RunFolder.open(run)).costs("mflops", "resnet") for run in (made_up, two_galleries)]
    )
    assert drawn["mflops"] == [costs.min(), costs.max()]


def test_reference_networks_and_finished_picks_are_drawn(made_up, tmp_path, capsys):
    run = shutil.copytree(made_up, tmp_path / "run")
    bare, full = tmp_path / "bare.svg", tmp_path / "full.svg"
    plot(capsys, run, "--out", bare)
    points = [{"name": "MobileNetV2", "mflops": 2.5, "score": 0.5}, {"name": "unknown cost", "score": 0.5}]
    write_json(tmp_path / "points.json", {"metric": "map@r", "points": points})
    write_json(run / "evaluation.search.json", evaluated("search"))
    plot(capsys, run, "--out", full, "--references", tmp_path / "points.json")
    assert sum(n * k for n, k in markers(full).items()) > sum(n * k for n, k in markers(bare).items())
    finished = searched(RunFolder.open(run)).trained
    assert [(point.name, point.mflops, point.score) for point in finished] == [("M(q,g) q1", 1.5, 0.6)]


def test_the_parts_of_an_architecture_add_up_to_it(made_up, tmp_path, capsys):
    run = RunFolder.open(made_up)
    space, pair = query_space(run), run.read_front()["pairs"][-1]["query"]
    arch = space.from_json(pair["arch"])
    parts = anatomy(space, arch)
    assert sum(part.macs for part in parts) == round(pair["mflops"] * 1e6)
    assert sum(part.params for part in parts) == round(pair["params_m"] * 1e6)
    assert [part.cin for part in parts[1:]] == [part.cout for part in parts[:-1]]
    assert parts[0].position == "stem"
    assert parts[-1].shape.endswith("channels to a vector of 128")
    assert "expansion" in parts[1].what
    assert plot(capsys, made_up, "--kind", "arch", "--pick", "best", "--out", tmp_path / "a.svg")["id"] == pair["id"]


def test_a_ranking_is_drawn_from_what_rank_left(made_up, tmp_path, capsys):
    run = shutil.copytree(made_up, tmp_path / "run")
    side = {"heterogeneous": 0.5, "interval": [0.4, 0.6]}
    lines = [{"query": {"mflops": 1.0 + n}, "supernet": side, "alone": side} for n in range(5)]
    (run / "rank.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {"n": 5, "recipe": "r", "space": "s", "metric": "map@r", "kendall": {"value": 0.5, "interval": [0.1, 0.9]}}
    write_json(run / "rank.json", told)
    drawn = plot(capsys, run, "--kind", "rank", "--out", tmp_path / "rank.svg")
    assert drawn["architectures"] == 5
    assert "Kendall tau 0.500 [0.100, 0.900]" in (tmp_path / "rank.svg").read_text()
    write_json(run / "rank.json", {"n": "all"})
    assert main(["plot", str(run), "--kind", "rank"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_front_that_does_not_say_what_indexing_costs(made_up, capsys, tmp_path):
    run = tmp_path / "older"
    shutil.copytree(made_up, run)
    front = read_json(run / "front.json")
    del front["indexed_per_query"]
    write_json(run / "front.json", front)
    assert main(["plot", str(run), "--cost", "amortised"]) == 2
    assert "run older does not say what indexing costs; plot --cost mflops" in capsys.readouterr().err


MISTAKES = [
    (["--kind", "frnt"], "unknown kind of picture 'frnt'. Did you mean 'front'?"),
    (["--out", "front.jpg"], "cannot plot to 'front.jpg'; use a name that ends in .png, .svg, .pdf."),
    (["--out", "none/front.png"], "folder none does not exist"),
    (["--kind", "progress", "--out", "none/p.png"], "folder none does not exist"),
    (["--out", "/proc/front.png"], "cannot write /proc/front.png"),
    (["--cost", "money"], "unknown cost 'money'. There are: amortised, latency, mflops, params."),
    (["--cost", "latency"], "run one has no latency_ms in record 0; plot --cost mflops"),
    (["--kind", "arch", "--pick", "bets"], "unknown pick 'bets'. Did you mean 'best'?"),
    (["--kind", "progress", "--cost", "params"], "--kind progress takes no option of its own, not --cost."),
    (["--kind", "front", "--pick", "best"], "--kind front takes --cost, --references of its own, not --pick."),
    (["--kind", "rank"], "has no rank.json; make it with: cmpnas rank"),
    (["--references", "none.json"], "none.json cannot be read"),
    (["--references", "other.json"], "other.json is scored in 'hit@1', the runs in 'map@r'"),
    (["--references", "wrong.json"], "points.0.score"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes(made_up, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "other.json", {"metric": "hit@1", "points": [{"name": "a", "score": 1}]})
    write_json(tmp_path / "wrong.json", {"metric": "map@r", "points": [{"name": "a", "score": "good"}]})
    before = sorted(made_up.iterdir())
    assert main(["plot", str(made_up), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(made_up.iterdir()) == before


def test_several_runs(made_up, two_galleries, tmp_path, capsys):
    both = ["plot", str(made_up), str(two_galleries)]
    assert main(both) == 2
    assert "a picture of 2 runs belongs to none of them; name it with --out FILE" in capsys.readouterr().err
    assert main([*both, "--kind", "arch", "--out", str(tmp_path / "a.png")]) == 2
    assert "--kind arch draws one run; 2 came" in capsys.readouterr().err
    other = shutil.copytree(made_up, tmp_path / "other")
    front = json.loads((other / "front.json").read_text())
    write_json(other / "front.json", front | {"metric": "hit@1"})
    assert main(["plot", str(made_up), str(other), "--out", str(tmp_path / "a.png")]) == 2
    assert "run one is scored in map@r, run other in hit@1" in capsys.readouterr().err


def test_a_run_without_a_front(made_up, tmp_path, capsys):
    run = shutil.copytree(made_up, tmp_path / "run")
    (run / "front.json").unlink()
    for kind in ("front", "progress", "arch"):
        assert main(["plot", str(run), "--kind", kind]) == 2
        assert "has no front.json; finish the search with: cmpnas search" in capsys.readouterr().err
