"""A whole run with several gallery options: pairs, options that come later, what is refused."""

from __future__ import annotations

import csv
import json
import shutil

import faiss
import numpy as np
import pytest
import yaml

from cmpnas.cli.app import main
from cmpnas.gallery.precomputed import PrecomputedGallery
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import list_finished, load_finished
from cmpnas.search.evaluator import Evaluator
from cmpnas.train.embed import embed
from tests.conftest import DIVIDED

TRANSFORM = {"kind": "linear", "train": {"epochs": 2, "batch_size": 8, "lr": 0.001}}


def mapped(name, **more):
    """Embeddings of another model, with its way to the anchor."""
    return {"kind": "precomputed", "name": name, "file": f"{name}.npz", "mflops": 20, "transform": TRANSFORM} | more


def ensemble(name, members, **more):
    return {"kind": "ensemble", "name": name, "members": members} | more


ALL = [
    mapped("b"),
    mapped("c", mflops=30, transform=TRANSFORM | {"kind": "wide"}),
    ensemble("three", ["anchor", "b", "c"], reject={"coverage": 0.5}),
    ensemble("two", {"c": 1, "b": 0.3}),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Coloured noise of twelve classes, and what four models say of it."""
    folder = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 8)
    tint = rng.integers(40, 215, (12, 3))[labels]
    images = np.clip(tint[:, None, None] + rng.normal(0, 25, (96, 16, 16, 3)), 0, 255).astype(np.uint8)
    np.savez(folder / "set.npz", images=images, labels=labels, part=labels // 4, side=np.tile([0, 0, 1, 1], 24))
    latent = np.concatenate([(tint - 128) / 64, rng.normal(size=(12, 3))[labels]], 1)
    for name, width in (("anchor", 8), ("b", 10), ("c", 6), ("d", 9)):
        view = np.tanh(latent @ rng.normal(size=(6, width))) + 0.3 * rng.normal(size=(96, width))
        np.savez(folder / f"{name}.npz", embeddings=view)
    return folder


def recipe(folder, galleries, **changes):
    """A file of the run's recipe."""
    content = {
        "name": "options",
        "data": DIVIDED,
        "gallery": {"kind": "precomputed", "name": "anchor", "file": "anchor.npz", "mflops": 50},
        "galleries": galleries,
        "query": {
            "space": "mobile_small", "loss": {"regression": 1},
            "supernet": {"epochs": 2, "batch_size": 8, "lr": 0.005},
            "train": {"epochs": 1, "batch_size": 8, "lr": 0.001},
        },
        "search": {"trials": 5, "population": 4, "calibration_images": 8, "indexed_per_query": 0.1},
    } | changes  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def search(data, folder, galleries, *more, **changes):
    folder.mkdir(exist_ok=True)
    path = recipe(folder, galleries, **changes)
    return main(["search", "--recipe", str(path), "--data", str(data), "--run", str(folder / "run"), *more])


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert search(data, folder, ALL) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert search(data, folder, []) == 0
    return folder / "run"


def copied(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    return tmp_path


def records(run):
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


def vectors(run, name):
    folder = run / "gallery" / name
    return np.load((folder / "mapped" if name in "bcd" else folder) / "gallery.npy")


def test_every_option_is_scored_and_the_front_is_of_pairs(run):
    lines, front = records(run), json.loads((run / "front.json").read_text())
    assert all(list(line["galleries"]) == ["anchor", "b", "c", "three", "two"] for line in lines)
    costs = {"anchor": 50, "b": 20 + 80e-6, "c": 30 + (48 + 64) * 1e-6}
    costs |= {"three": sum(costs.values()), "two": costs["b"] + costs["c"]}
    for gallery in front["galleries"]:
        assert gallery["mflops"] == pytest.approx(costs[gallery["name"]], abs=1e-9)
        assert gallery["index_bytes"] == 32
    kept = {gallery["name"]: gallery["kept_bytes"] for gallery in front["galleries"]}
    assert kept == {"anchor": 0, "b": 40, "c": 24, "three": 64 + 3 * 32, "two": 64 + 2 * 32}
    points = {
        (line["query"]["id"], name): (-score["heterogeneous"], line["query"]["mflops"], costs[name])
        for line in lines
        for name, score in line["galleries"].items()
    }

    def beats(other, point):
        return other != point and all(a <= b for a, b in zip(other, point, strict=True))

    best = {pair for pair, point in points.items() if not any(beats(other, point) for other in points.values())}
    assert {(pair["query"]["id"], pair["gallery"]["name"]) for pair in front["pairs"]} <= best
    assert len(front["pairs"]) == len({points[pair] for pair in best})
    for pair in front["pairs"]:
        whole = pair["query"]["mflops"] + 0.1 * costs[pair["gallery"]["name"]]
        assert pair["amortised_mflops"] == pytest.approx(whole)


def test_an_option_that_comes_later_runs_no_network_and_ends_with_the_same_bytes(
    data, run, alone, tmp_path, monkeypatch
):
    folder = copied(alone, tmp_path)

    def refuse(*_):
        raise RuntimeError("a network was evaluated")

    monkeypatch.setattr(Evaluator, "judge", refuse)
    supernet = (folder / "run" / "supernet.pt").stat().st_mtime_ns
    assert search(data, folder, ALL[:1], "--resume") == 0
    assert search(data, folder, ALL, "--resume") == 0
    for name in ("records.jsonl", "front.json"):
        assert (folder / "run" / name).read_bytes() == (run / name).read_bytes()
    assert (folder / "run" / "supernet.pt").stat().st_mtime_ns == supernet


def test_an_option_that_is_left_out_is_not_on_the_front(data, run, tmp_path):
    folder = copied(run, tmp_path)
    assert search(data, folder, ALL[:1], "--resume") == 0
    front = json.loads((folder / "run" / "front.json").read_text())
    assert [gallery["name"] for gallery in front["galleries"]] == ["anchor", "b"]
    assert {pair["gallery"]["name"] for pair in front["pairs"]} <= {"anchor", "b"}
    assert records(folder / "run") == records(run)


def test_a_member_more_computes_its_own_vectors_alone(data, run, tmp_path):
    folder = copied(run, tmp_path / "later")
    untouched = [path for path in (folder / "run" / "gallery").rglob("*") if path.is_file()]
    times = [path.stat().st_mtime_ns for path in untouched]
    more = [*ALL, mapped("d"), ensemble("four", ["anchor", "b", "c", "d"])]
    assert search(data, folder, more, "--resume") == 0
    assert [path.stat().st_mtime_ns for path in untouched] == times
    start = tmp_path / "start"
    assert search(data, start, [mapped("d"), *more[3::2], *ALL[:2]]) == 0
    for name in ("d", "four"):
        assert np.array_equal(vectors(folder / "run", name), vectors(start / "run", name))
    total = np.load(folder / "run" / "gallery" / "anchor" / "gallery.npy") + sum(
        vectors(run if name != "d" else folder / "run", name) for name in "bcd"
    )
    mean = total / np.linalg.norm(total, axis=1, keepdims=True)
    assert vectors(folder / "run", "four") == pytest.approx(mean, abs=1e-6)


def test_a_query_model_of_another_space_needs_new_transforms_alone(data, run, tmp_path, monkeypatch):
    """Gallery models are not asked again: what they said of the images was kept."""
    for name in ("b", "c"):
        shutil.copytree(run / "gallery" / name, tmp_path / "kept" / name, ignore=shutil.ignore_patterns("mapped"))
    plain = PrecomputedGallery.embed

    def embed(self, *about):
        if self.settings.name != "d":
            raise RuntimeError("a gallery model was run")
        return plain(self, *about)

    anchor = {"kind": "precomputed", "name": "d", "file": "d.npz", "mflops": 60}
    more = [mapped("b"), mapped("c", mflops=30), ensemble("two", ["b", "c"])]
    assert search(data, tmp_path, [], "--trials", "2", gallery=anchor) == 0
    for name in ("b", "c"):
        shutil.copytree(tmp_path / "kept" / name, tmp_path / "run" / "gallery" / name)
    monkeypatch.setattr(PrecomputedGallery, "embed", embed)
    assert search(data, tmp_path, more, "--trials", "2", "--resume", gallery=anchor) == 0
    assert vectors(tmp_path / "run", "two").shape == (16, 9)


def test_the_index_leaves_out_what_is_rejected_and_says_why(run):
    folder = run / "gallery" / "three"
    index, mean = faiss.read_index(str(folder / "index.faiss")), np.load(folder / "gallery.npy")
    distance = np.load(folder / "distance.npy")
    with (folder / "rejected.csv").open() as file:
        rows = list(csv.DictReader(file))
    out = sorted(range(16), key=lambda row: (distance[row], row))[8:]
    assert [int(row["row"]) for row in rows] == sorted(out)
    items = np.flatnonzero((np.repeat(np.arange(12), 8) // 4 == 1) & (np.tile([0, 0, 1, 1], 24) == 1))
    assert [int(row["item"]) for row in rows] == [items[int(row["row"])] for row in rows]
    assert all(float(row["distance"]) >= float(row["limit"]) for row in rows)
    assert index.ntotal == 8
    _, found = index.search(mean, 1)
    assert [row for row in range(16) if found[row, 0] == row] == sorted(set(range(16)) - set(out))


def check_rejection(found, folder, data):
    """Whether the first query that has an answer left finds one first, before and after, counted one by one."""
    stages = Stages.of_run(folder, str(data), print)
    (how,) = list_finished(stages)
    task, network = stages.splits.search, load_finished(stages, how)
    kept, distance = (np.load(folder / "gallery" / "three" / f"{name}.npy") for name in ("gallery", "distance"))
    stays = np.argsort(distance, kind="stable")[:8]
    hits = []
    for vector, label in zip(embed(network, task.query), task.query.labels, strict=True):
        if label in task.gallery.labels[stays]:
            nearest = [rows[np.argmax(kept[rows] @ vector)] for rows in (np.arange(16), stays)]
            hits.append(task.gallery.labels[nearest] == label)
    before, after = np.mean(hits, axis=0)
    assert found["gallery"] == "three"
    assert (found["queries"], found["coverage"]) == (len(hits), 0.5)
    assert found["limit"] == pytest.approx(distance[stays].max())
    assert [found["error_before"], found["error"], found["gain"]] == pytest.approx(
        [1 - before, 1 - after, after - before]
    )
    assert found["gain_interval"][0] <= found["gain"] <= found["gain_interval"][1]


def test_evaluate_scores_every_pair_anew(data, run, tmp_path, capsys):
    folder = copied(run, tmp_path) / "run"
    about = [str(folder), "--data", str(data)]
    assert main(["evaluate", *about, "--split", "search", "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert pairs["n"] == len(json.loads((folder / "front.json").read_text())["pairs"])
    assert pairs["max_abs_difference"] < 1e-6
    front = json.loads((folder / "front.json").read_text())  # whose best pair is of an ensemble, whoever won
    best = max(front["pairs"], key=lambda pair: pair["scores"]["heterogeneous"])
    best["gallery"] = next(option for option in front["galleries"] if option["name"] == "three")
    (folder / "front.json").write_text(json.dumps(front))
    assert main(["train", *about, "--pick", "best", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["supernet_weights"]["heterogeneous"] == best["scores"]["heterogeneous"]
    assert trained["gallery"] == "three"
    assert main(["evaluate", *about, "--split", "search", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    check_rejection(said["rejections"][0], folder, data)
    systems = {system["name"]: system["scores"] for system in said["systems"]}
    found = systems[f"heterogeneous M(q,{trained['gallery']})  q1"][trained["metric"]]
    assert trained["trained"]["heterogeneous"] == pytest.approx(found, abs=1e-9)
    assert main(["evaluate", *about, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = [s["name"].split() for s in result["systems"][1:16]]
    assert [name[1] for name in names[::3]] == ["M(q,g)", "M(q,b)", "M(q,c)", "M(q,three)", "M(q,two)"]
    assert names[1::3] == [["aligned", *name[1:]] for name in names[::3]]
    assert names[2::3] == [["joined", name[1].replace(")", "+q)"), name[2]] for name in names[::3]]
    assert [s["name"].split()[2] for s in result["systems"][-4:]] == ["M(g,b)", "M(g,c)", "M(g,three)", "M(g,two)"]
    by_kind = {
        kind: [verdict for verdict in result["verdicts"] if verdict["kind"] == kind]
        for kind in ("heterogeneous", "aligned", "joined")
    }
    result["verdicts"] = by_kind["heterogeneous"]
    for verdicts in by_kind.values():
        assert [v["gallery"] for v in verdicts] == ["anchor", "b", "c", "three", "two"]
    assert "over_anchor" not in result["verdicts"][0]
    score = {system["name"]: system["scores"][result["metrics"][0]] for system in result["systems"]}
    over = score["heterogeneous M(q,three)  q1"] - score["large model   M(g,three)"]
    assert result["verdicts"][3]["over_large"] == pytest.approx(over, abs=1e-9)
    hits = {system["name"]: system["scores"]["hit@1"] for system in result["systems"]}
    for verdict in result["verdicts"]:
        overlap = verdict["below"]["overlap"]
        found = hits[f"heterogeneous M(q,{'g' if verdict['gallery'] == 'anchor' else verdict['gallery']})  q1"]
        assert overlap["both"] + overlap["only_first"] == pytest.approx(found)
        assert overlap["both"] + overlap["only_second"] == pytest.approx(hits["paragon       M(g,g)"])
    assert [(found["gallery"], found["coverage"]) for found in result["rejections"]] == [
        ("three", 0.5), ("two", pytest.approx(15 / 16)),
    ]  # fmt: skip
    assert main(["evaluate", *about]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for verdict in result["verdicts"]:
        gap, (low, high) = 100 * verdict["paragon_gap"], [100 * end for end in verdict["paragon_gap_interval"]]
        said = f"{gap:.2f} points below it [{low:.2f}, {high:.2f}]"
        assert (said if gap > 0 else f"{-gap:.2f} points above it [{-high:.2f}, {-low:.2f}]") in printed
    over, (low, high) = 100 * verdict["over_anchor"], [100 * end for end in verdict["over_anchor_interval"]]
    side, sign = ("below", -1) if over < 0 else ("above", 1)
    ends = sorted((sign * low, sign * high))
    assert f"{sign * over:.2f} points {side} the anchor's index [{ends[0]:.2f}, {ends[1]:.2f}]" in printed
    assert "its members disagree on most" in printed
    assert verdict["below"]["text"] in printed
    assert main(["export", *about, "--pick", "best", "--out", str(tmp_path / "out")]) == 0
    assert main(["plot", str(folder), "--out", str(tmp_path / "front.svg")]) == 0


def test_what_is_not_kept_is_not_scored(data, alone, tmp_path, capsys):
    folder = copied(alone, tmp_path)
    shutil.rmtree(folder / "run" / "queries")
    assert search(data, folder, ALL[:1], "--resume") == 0
    assert "of 5 architectures no query embeddings are kept" in capsys.readouterr().err
    assert all(list(line["galleries"]) == ["anchor"] for line in records(folder / "run"))
    assert search(data, folder, ALL[:1], "--resume", "--trials", "6") == 0
    assert list(records(folder / "run")[5]["galleries"]) == ["anchor", "b"]
    pairs = json.loads((folder / "run" / "front.json").read_text())["pairs"]
    assert "b" in [pair["gallery"]["name"] for pair in pairs]
    capsys.readouterr()
    assert main(["report", str(folder / "run"), "--data", str(data), "--out", str(tmp_path / "page.html")]) == 0
    assert "report: without b, against which some architectures were not scored" in capsys.readouterr().err


def test_a_mistake_in_an_option_that_comes_later_leaves_the_run_as_it_was(data, alone, tmp_path, capsys):
    folder = copied(alone, tmp_path)
    before = (folder / "run" / "recipe.yaml").read_bytes()
    for more in (["--dry-run"], ["--resume"]):
        assert search(data, folder, [mapped("later")], *more) == 2
        assert "later.npz does not exist" in capsys.readouterr().err
    assert (folder / "run" / "recipe.yaml").read_bytes() == before
    shutil.copy(data / "b.npz", data / "later.npz")
    assert search(data, folder, [mapped("later")], "--resume") == 0


MISTAKES = [
    ([mapped("anchor")], "two gallery options are called 'anchor'; give each its own name"),
    ([mapped("b"), mapped("b")], "two gallery options are called 'b'"),
    ([mapped("b", transform=None)], "gallery 'b' needs a transform into the space of 'anchor'"),
    ([ensemble("e", ["anchor"])], "an ensemble has two members or more; there are 1"),
    ([mapped("b"), ensemble("e", ["b", "b"])], "member 'b' is named twice"),
    ([mapped("b"), ensemble("e", ["b", "bb"])], "gallery 'e': unknown member 'bb'. Did you mean 'b'?"),
    ([mapped("b"), ensemble("e", ["b", "anchor"]), ensemble("f", ["e", "b"])], "unknown member 'e'. There are: anch"),
    ([mapped("b"), ensemble("e", ["b", "anchor"], reject={})], "reject: give either coverage or distance"),
    ([mapped("b", transform=TRANSFORM | {"kind": "round"})], "transform.kind: input should be 'linear', 'parallel',"),
    ([mapped("b", transform={"kind": "linear"})], "transform.train: required"),
    ([{"kind": "views", "name": "v", "views": 3, "augment": {"flip": 1}}], "'anchor', of saved embeddings, never sees"),
    ([{"kind": "views", "name": "v", "views": 3, "augment": {}}], "all views are the image itself; give flip"),
    ([mapped("nope")], "nope.npz does not exist"),
    ([mapped("short")], "short.npz holds 95 embeddings, the data set 96 items"),
    ([mapped("broken")], "embeddings hold NaN or infinity, first in row 5"),
    ([mapped("b", transform=TRANSFORM | {"train": {"epochs": 1, "batch_size": 999, "lr": 0.1}})], "one batch of 999"),
]  # fmt: skip


@pytest.mark.parametrize(("galleries", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistakes(data, alone, tmp_path, capsys, galleries, message):
    rows = np.random.default_rng(0).normal(size=(96, 5))
    np.savez(data / "short.npz", embeddings=rows[:95])
    rows[5, 2] = np.nan
    np.savez(data / "broken.npz", embeddings=rows)
    folder = copied(alone, tmp_path)
    before = records(folder / "run")
    assert search(data, folder, galleries, "--resume") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert records(folder / "run") == before


def test_the_anchor_has_no_transform(data, tmp_path, capsys):
    anchor = {"kind": "precomputed", "name": "anchor", "file": "anchor.npz", "mflops": 50, "transform": TRANSFORM}
    assert search(data, tmp_path, [], gallery=anchor) == 2
    assert "gallery 'anchor' is the anchor, whose space" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed",
    [
        [mapped("b", transform=TRANSFORM | {"seed": 1}), *ALL[1:]],
        [*ALL[:3], ensemble("two", ["b", "anchor"])],
        [*ALL[:2], ensemble("three", ["anchor", "b", "c"], reject={"coverage": 0.6}), ALL[3]],
    ],
)
def test_another_option_under_the_same_name_is_refused(data, run, tmp_path, capsys, changed):
    folder = copied(run, tmp_path)
    assert search(data, folder, changed, "--resume") == 2
    assert "settings or members; give the gallery option another name" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("gallery/b/mapped/transform.pt", "transform.pt cannot be read as a checkpoint"),
        ("gallery/b/mapped/gallery.npy", "gallery.npy cannot be read"),
        ("gallery/three/distance.npy", "distance.npy cannot be read"),
        ("gallery/three/key.json", "key.json cannot be read"),
    ],
)
def test_damaged_artefacts_are_named(data, run, tmp_path, capsys, file, message):
    folder = copied(run, tmp_path)
    (folder / "run" / file).write_bytes(b"{")
    assert search(data, folder, ALL, "--resume") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
