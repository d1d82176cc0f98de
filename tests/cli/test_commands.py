"""Commands and their errors: one clear line, exit status 2, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.train import checkpoint

MISTAKES = [
    (
        ["search", "--recipe", "nope"],
        "unknown recipe 'nope'. There are: coco, deepfashion2, emoji, emoji_text, fashion_mnist, fashion_mnist_80x, ",
    ),
    (["search", "--set", "query.space=nope", "--dry-run"], "unknown space 'nope'"),
    (["search", "--set", "search.nope=1", "--dry-run"], "search.nope: unknown key"),
    (
        ["search", "--set", "search.reward=r3", "--set", "search.homogeneous=front", "--dry-run"],
        "the reward r3 needs M(q, q) of all; use homogeneous: all, or r2",
    ),
    (["search", "--budget-mflops", "0", "--dry-run"], "a budget of 0 MFLOPs is not a positive number"),
    (["search", "--budget-mflops", "-1", "--dry-run"], "a budget of -1 MFLOPs is not a positive number"),
    (["search", "--budget-mflops", "nan", "--dry-run"], "not a positive number"),
    (["search", "--budget-mflops", "0.001", "--dry-run"], "the smallest reachable is"),
    (["search", "--budget-mflops", "many"], "Invalid value for '--budget-mflops'"),
    (["search", "--trials", "0", "--dry-run"], "search.trials"),
    (["search", "--controller", "magic", "--dry-run"], "unknown controller 'magic'"),
    (["search", "--arch", "none.json"], "none.json cannot be read"),
    (["search", "--set", "search.known=[{}, {}]", "--trials", "1", "--dry-run"], "known: 2 architectures, of 1 trials"),
    (["search", "--set", "search.known=[{}]", "--dry-run"], "search.known, 0: an architecture is"),
    (["search", "--recipe", "shop_text", "--set", "search.known=[{}]", "--dry-run"], "search.known, 0: an archi"),
    (["search", "--nope"], "No such option"),
    (["serch"], "No such command 'serch'"),
    (["train", "no/such/run"], "no/such/run is not a run folder; make one with"),
    (["evaluate", "no/such/run"], "no/such/run is not a run folder"),
    (["evaluate", "x", "--split", "train"], "unknown split 'train'"),
    (["export", "no/such/run"], "no/such/run is not a run folder"),
    (["verify", "no/such/bundle"], "no/such/bundle has no manifest.json, it is not a bundle"),
    (["plot", "no/such/run"], "no/such/run is not a run folder"),
    (["report", "no/such/run"], "no/such/run is not a run folder"),
    (["dashboard", "no/such/run"], "no/such/run is not a run folder"),
    (["dashboard", "no/such/run", "--port", "0"], "Invalid value for '--port'"),
    (["rank", "no/such/run"], "no/such/run is not a run folder"),
    (
        ["rank", "no/such/run", "--architectures", "2"],
        "2 architectures have no order worth a certificate; give at least 3",
    ),
    (["rank", "no/such/run", "--architectures", "many"], "Invalid value for '--architectures'"),
    (["cost", "nope"], "unknown space 'nope'"),
    (["cost", "mobile", "--arch", "none.json"], "none.json cannot be read"),
    (["cost", "mobile", "--size", "3"], "size"),
    (["cost", "mobile", "--max-mflops", "3"], "limit a count; add --count"),
    (["cost", "mobile", "--count", "--extremes"], "exclude each other"),
    (["search", "--set", "gallery.space=nope", "--dry-run"], "unknown space 'nope'"),
    (["search", "--set", "gallery.arch={stage1.width: 50}", "--dry-run"], "stage1.width = 50 is not in space"),
    (["cost", "mobile", "--count", "--max-mflops", "-1"], "not a positive number"),
    (["cost", "tiny", "--max-latency-ms", "1"], "limit a count; add --count"),
    (["cost", "tiny", "--count", "--max-latency-ms", "1"], "needs a latency table of the space"),
    (["cost", "tiny", "--latency-table", "none.json"], "cannot read latency table none.json"),
    (["cost", "model.onnx", "--latency-table", "none.json"], "model.onnx is one model, not a space"),
    (["measure", "tiny"], "Missing option '--out'"),
    (["measure", "nope", "--out", "t.json"], "unknown space 'nope'"),
    (["measure", "tiny", "--out", "t.json", "--threads", "0"], "--threads is 0; give at least 1"),
    (["measure", "tiny", "--out", "t.json", "--networks", "2"], "a correction needs at least 10"),
    (["measure", "tiny", "--out", "/proc/none/t.json"], "cannot write to /proc/none"),
    (["search", "--budget-latency-ms", "2", "--dry-run"], "budget_latency_ms needs a latency_table"),
    (
        ["search", "--budget-latency-ms", "2", "--latency-table", "none.json", "--dry-run"],
        "none.json (No such file or directory)",
    ),
    (
        ["search", "--budget-latency-ms", "0", "--latency-table", "none.json", "--dry-run"],
        "a budget of 0 ms is not a positive number; give --budget-latency-ms a number above 0",
    ),
    (
        [
            "search",
            "--set",
            "search.budget_latency_ms=1",
            "--set",
            "search.budget_mflops=1",
            "--set",
            "search.budget_params_m=1",
            "--set",
            "search.latency_table=x",
            "--dry-run",
        ],
        "at most two can be kept at once",
    ),
    (["matrix", "--query", "none.npz", "--gallery", "none.npz"], "none.npz does not exist"),
    (["ls", "nope"], "unknown kind 'nope'"),
    (["ls", "--explain"], "unknown kind None"),
    (["search", "--dry-run", "--engine", "kubernetes"], "unknown engine 'kubernetes'"),
    (["search", "--dry-run", "--workers", "0"], "at least 1 must evaluate"),
    (["search", "--dry-run", "--storage", "redis://x"], "unknown storage 'redis://x'"),
    (["search", "--dry-run", "--recipe", "fashion_mnist", "--data", "/nowhere"], "data folder /nowhere does not exist"),
    (["measure", "tiny", "--out", "t.csv"], "a latency table is written as JSON; use a name that ends in .json"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.err.startswith("error: ")
    assert output.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["recipes", "spaces", "losses", "metrics", "controllers"])
def test_ls(kind, capsys):
    assert main(["ls", kind, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert all(about and not about.isspace() for about in entries.values())


def test_dry_run_touches_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CMPNAS_DATA", raising=False)
    assert main(["search", "--dry-run", "--budget-mflops", "1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 0 < int(plan["feasible"].replace(",", "")) < plan["architectures"] == 50_322_384
    assert not list(tmp_path.iterdir())
    assert plan["embedding_dim"] == 128
    assert main(["search", "--dry-run"]) == 0
    assert "by a guess" not in capsys.readouterr().out
    ours = ["--set", "galleries=[]", "--set", "gallery={kind: onnx, name: g, file: g.onnx}", "--set", "query.views=0"]
    assert main(["search", "--dry-run", *ours]) == 0
    assert "by a guess: how wide the gallery's embeddings are shows when they are read" in capsys.readouterr().out


def test_cost_agrees_with_fvcore(capsys):
    assert main(["cost", "mobile_small", "--audit", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["architectures"]:
        assert row["fvcore"] == {"mflops": row["mflops"], "params_m": row["params_m"]}


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from cmpnas.cli.app import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'faiss', 'optuna', 'pydantic'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, cmpnas; assert not {'torch', 'faiss', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# A whole run, small enough for seconds


def test_the_next_command_is_one_that_a_shell_takes_and_that_works(tmp_path, monkeypatch, capsys):
    from cmpnas.cli import search

    monkeypatch.setattr("cmpnas.report.tables.print_front", lambda front: None)
    for reduction, pick in ((21.0, "20x"), (19.0, "best")):
        front = {"pairs": [{"cost_reduction": reduction}]}
        monkeypatch.setattr("cmpnas.pipeline.search.search", lambda *given, front=front, **named: front)
        search.command("quickstart", run=tmp_path / "a b", data="d e")
        told = capsys.readouterr().out.splitlines()[-1].removeprefix("next:  ")
        assert shlex.split(told) == ["cmpnas", "train", str(tmp_path / "a b"), "--pick", pick, "--data", "d e"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_is_full_or_not_ours_is_told(number, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "front.json")

    monkeypatch.setattr("cmpnas.pipeline.search.search", refuse)
    assert main(["search", "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot use front.json: {os.strerror(number)}; what was finished is kept")
    assert error.count("\n") == 1


def test_weights_that_do_not_fit_on_a_disk_are_told(tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:672] PytorchStreamWriter failed writing file data/1")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.save({}, tmp_path / "a.pt")


@pytest.fixture
def brought(tmp_path):
    """A user's own data and embeddings: coloured noise, four classes a split."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 6)
    tint = rng.integers(40, 215, (12, 3))[labels]
    images = np.clip(tint[:, None, None] + rng.normal(0, 25, (72, 16, 16, 3)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=labels, part=labels // 4, side=np.tile([0, 0, 1], 24))
    embeddings = rng.normal(size=(12, 8))[labels] + 0.1 * rng.normal(size=(72, 8))
    np.savez(tmp_path / "ours.npz", embeddings=embeddings)
    (tmp_path / "mine.yaml").write_text("""
name: mine
data:
  reader: npz
  size: 16
  file: set.npz
  images: images
  label: labels
  train: {part: 0}
  search: {query: {part: 1, side: 0}, gallery: {part: 1, side: 1}}
  test: {query: {part: 2, side: 0}, gallery: {part: 2, side: 1}}
gallery: {kind: precomputed, name: ours, file: ours.npz, mflops: 50}
query:
  space: mobile_small
  loss: {regression: 1}
  supernet: {epochs: 1, batch_size: 8, lr: 0.001}
  train: {epochs: 1, batch_size: 8, lr: 0.001}
search: {trials: 4, calibration_images: 8}
""")
    return tmp_path


def own_search(brought):
    return ["search", "--recipe", str(brought / "mine.yaml"), "--data", str(brought), "--run", str(brought / "run")]


def test_own_data_and_own_embeddings(brought, capsys):
    assert main([*own_search(brought), "--json"]) == 0
    front = json.loads(capsys.readouterr().out)
    assert front["paragon"] == {"gallery": "ours", "mflops": 50.0, "score": 1.0}
    assert front["pairs"][0]["gallery"]["kind"] == "precomputed"
    data = ["--data", str(brought)]
    assert main(["train", str(brought / "run"), *data]) == 0
    assert main(["evaluate", str(brought / "run"), *data]) == 0
    assert main(["export", str(brought / "run"), *data]) == 0
    capsys.readouterr()
    with np.load(brought / "ours.npz") as saved:  # other embeddings under the same name are no fault of the network
        np.savez(brought / "ours.npz", embeddings=saved["embeddings"][::-1])
    for command in ("evaluate", "export", "train"):
        assert main([command, str(brought / "run"), *data]) == 2
        assert "gallery/ours was made from other data or settings; name another --run" in capsys.readouterr().err


def test_a_search_split_with_nothing_to_find_is_known_before_the_run(brought, capsys):
    nothing = "data.search={query: {part: 1, labels: [4, 5]}, gallery: {part: 1, labels: [6, 7]}}"
    assert main([*own_search(brought), "--set", nothing]) == 2
    assert "no query of data.search has a relevant picture in its gallery" in capsys.readouterr().err
    own = "data.search={query: {part: 1, side: 0}, gallery: {part: 1, side: 1}}"
    assert main([*own_search(brought), "--set", own, "--set", "data.source=labels"]) == 2  # all are of the query's own
    assert "no query of data.search has a relevant picture in its gallery" in capsys.readouterr().err
    assert not (brought / "run").exists()


@pytest.mark.parametrize(
    ("file", "arrays", "message"),
    [
        ("ours.npz", {"embeddings": np.full((72, 8), np.nan)}, "hold NaN or infinity, first in row 0"),
        ("ours.npz", {"embeddings": np.ones((71, 8))}, "holds 71 embeddings, the data set 72 items"),
        (
            "ours.npz",
            {"embeddings": np.ones((72, 8)), "classifier": np.ones((12, 8))},
            "the classifier of gallery 'ours' is (12, 8); the data need (4, 8)",
        ),
        (
            "set.npz",
            {"images": np.zeros((5, 16, 16, 3), np.uint8), "labels": np.zeros(4, int)},
            "5 images but 4 'labels'",
        ),
        ("set.npz", None, "set.npz does not exist"),
    ],
)
def test_what_is_brought_is_checked(brought, capsys, file, arrays, message):
    (brought / file).unlink()
    if arrays is not None:
        np.savez(brought / file, **arrays)
    assert main(own_search(brought)) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert sum(line.startswith("error:") for line in error) == 1
    assert not (brought / "run").exists()
