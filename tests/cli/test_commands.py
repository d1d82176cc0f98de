"""Commands and their errors: one clear line, exit status 2, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.errors import RunError
from cmpnas.recipe import load_recipe
from cmpnas.run import RunFolder
from cmpnas.train import checkpoint
from tests.conftest import QUICK

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


def quick(folder, *more):
    overrides = [part for override in QUICK for part in ("--set", override)]
    return ["search", "--run", str(folder), "--budget-mflops", "2", *overrides, *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(quick(folder)) == 0
    return folder


def test_the_next_command_is_one_that_a_shell_takes_and_that_works(tmp_path, monkeypatch, capsys):
    from cmpnas.cli import search

    monkeypatch.setattr("cmpnas.report.tables.print_front", lambda front: None)
    for reduction, pick in ((21.0, "20x"), (19.0, "best")):
        front = {"pairs": [{"cost_reduction": reduction}]}
        monkeypatch.setattr("cmpnas.pipeline.search.search", lambda *given, front=front, **named: front)
        search.command("quickstart", run=tmp_path / "a b", data="d e")
        told = capsys.readouterr().out.splitlines()[-1].removeprefix("next:  ")
        assert shlex.split(told) == ["cmpnas", "train", str(tmp_path / "a b"), "--pick", pick, "--data", "d e"]


def test_a_run_leaves_what_was_promised(run):
    front = json.loads((run / "front.json").read_text())
    assert front["schema"] == 1
    assert front["budget"] == {"mflops": 2.0}
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert [line["n"] for line in lines] == list(range(8))
    assert len({line["query"]["id"] for line in lines}) == 8
    assert all(line["query"]["mflops"] <= 2 for line in lines)
    known = {line["query"]["id"]: line for line in lines}
    for pair in front["pairs"]:
        line = known[pair["query"]["id"]]
        assert pair["scores"]["heterogeneous"] == line["galleries"]["resnet"]["heterogeneous"]
        assert pair["reward"]["r3"] == pair["reward"]["r1"] * pair["reward"]["r2"]
        assert not any(
            other["query"]["mflops"] < pair["query"]["mflops"]
            and other["galleries"]["resnet"]["heterogeneous"] >= pair["scores"]["heterogeneous"]
            for other in lines
        )
    for name in ("recipe.yaml", "manifest.json", "supernet.pt", "front.png", "gallery/resnet/index.faiss"):
        assert (run / name).stat().st_size > 0
    assert "seconds" not in (run / "records.jsonl").read_text()


def test_the_resolved_recipe_reproduces_the_run(run):
    overrides = [*QUICK, "search.budget_mflops=2"]
    assert load_recipe(str(run / "recipe.yaml")) == load_recipe("quickstart", overrides)


def test_finished_run_is_left_as_it_is(run):
    before = {path: path.read_bytes() for path in (run / "records.jsonl", run / "front.json", run / "supernet.pt")}
    assert main(quick(run, "--resume")) == 0
    assert all(path.read_bytes() == content for path, content in before.items())


def test_more_trials_go_on_where_the_search_ended(run, tmp_path):
    shutil.copytree(run, tmp_path / "more")
    assert main(quick(tmp_path / "more", "--trials", "11", "--resume")) == 0
    first, more = ((f / "records.jsonl").read_text().splitlines() for f in (run, tmp_path / "more"))
    assert more[:8] == first
    assert len(more) == 11


def test_homogeneous_of_the_front_alone(run, tmp_path):
    more = ["--set", "search.homogeneous=front", "--workers", "2"]
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("front.*", "records.jsonl"))
    assert main(quick(folder, *more, "--resume")) == 0
    assert (folder / "front.json").read_bytes() == (run / "front.json").read_bytes()
    whole, lines = ((f / "records.jsonl").read_text().splitlines() for f in (run, folder))
    front = {pair["query"]["id"] for pair in json.loads((run / "front.json").read_text())["pairs"]}
    for before, after in zip(map(json.loads, whole), map(json.loads, lines), strict=True):
        own = before["homogeneous"] if before["query"]["id"] in front else None
        assert after.pop("homogeneous", None) == own
        assert after == {name: value for name, value in before.items() if name != "homogeneous"}
    assert main(["plot", str(folder), "--out", str(tmp_path / "front.svg")]) == 0
    assert main(["report", str(folder), "--out", str(tmp_path / "report.html")]) == 0
    (folder / "front.json").unlink()  # killed before the end
    (folder / "records.jsonl").write_text(
        "".join(line + "\n" for line in whole)
    )  # M(q, q) of others, of an earlier front
    assert main(quick(folder, *more, "--resume")) == 0
    assert (folder / "front.json").read_bytes() == (run / "front.json").read_bytes()
    assert (folder / "records.jsonl").read_text().splitlines() == lines


def test_homogeneous_of_all_after_that_of_the_front(run, tmp_path):
    """What an earlier setting left out is made up for where the front needs it."""
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("front.*"))
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for line in lines[:5]:
        del line["homogeneous"]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(quick(folder, "--resume")) == 0
    assert (folder / "front.json").read_bytes() == (run / "front.json").read_bytes()


def test_scores_by_other_weights_are_not_gone_on_with(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("supernet.pt"))
    (folder / "records.key.json").write_text('"another"')
    before = (folder / "records.jsonl").read_bytes()
    assert main(quick(folder, "--resume", "--trials", "11")) == 2
    assert "records.jsonl holds scores by other weights, files or latencies" in capsys.readouterr().err
    assert (folder / "records.jsonl").read_bytes() == before
    assert not (folder / "supernet.pt").exists()  # said before it is trained anew
    (folder / "records.key.json").unlink()  # a run of before there was one
    assert main(quick(folder, "--resume", "--trials", "9")) == 0
    assert (folder / "records.key.json").read_bytes() == (run / "records.key.json").read_bytes()


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


@pytest.mark.parametrize("line", ["{}", "stage", '{"stage": "front", "seconds": "long"}'])
def test_damaged_timings_are_told(run, tmp_path, line):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "timings.jsonl").write_text(f"{line}\n")
    with pytest.raises(RunError, match=r"timings\.jsonl is damaged"):
        RunFolder.open(folder).seconds()


def test_a_line_of_timings_cut_short_costs_nothing_else(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    with (folder / "timings.jsonl").open("a") as file:
        file.write('{"stage": "sup')
    assert main(quick(folder, "--resume", "--trials", "9")) == 0
    assert main(["report", str(folder), "--out", str(tmp_path / "report.html")]) == 0


def test_train_evaluate_export_plot(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("trained"))
    run = tmp_path / "run"
    assert main(["evaluate", str(run)]) == 2
    assert "no trained query network; run: cmpnas train" in capsys.readouterr().err
    assert main(["export", str(run), "--pick", "cheapest"]) == 2
    assert "is not trained; run: cmpnas train" in capsys.readouterr().err
    assert json.loads((run / "manifest.json").read_text())["test_opened"] == []
    assert main(["train", str(run), "--pick", "cheapest", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [system["name"].split()[0] for system in result["systems"]] == [
        "paragon", "heterogeneous", "aligned", "homogeneous", "untrained",
    ]  # fmt: skip
    assert result["verdicts"][0]["id"] == trained["id"]
    assert len(json.loads((run / "manifest.json").read_text())["test_opened"]) == 1

    assert main(["export", str(run), "--pick", trained["id"], "--out", str(tmp_path / "bundle"), "--json"]) == 0
    check = json.loads(capsys.readouterr().out)["manifest"]["proof"]["query.onnx"]
    assert check["max_abs_difference"] < 1e-4
    assert check["same_top10"]
    for suffix in ("png", "svg", "pdf"):
        assert main(["plot", str(run), "--out", str(tmp_path / f"front.{suffix}")]) == 0
    capsys.readouterr()
    assert main(["report", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pick"] == trained["id"]
    assert told["examples"] is None
    page = (run / "report.html").read_text()
    assert len(page.encode()) == told["bytes"]
    assert result["verdicts"][0]["text"].replace(">", "&gt;") in page
    assert len(re.findall(r'src="data:image/', page)) == 11 * page.count('class="example"') > 0
    assert len(json.loads((run / "manifest.json").read_text())["test_opened"]) == 1
    first = (tmp_path / "front.svg").read_bytes()
    assert main(["plot", str(run), "--out", str(tmp_path / "front.svg")]) == 0
    assert (tmp_path / "front.svg").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--set", "query.loss.regression=1"],
            "a run of another recipe (query.loss.regression is 10.0 there, 1.0 here)",
        ),
        (["--seed", "5"], "a run of another recipe (seed is 0 there, 5 here)"),
        (["--budget-mflops", "1.5"], "search.budget_mflops is 2.0 there, 1.5 here"),
    ],
)
def test_a_run_of_another_recipe_is_refused(run, arguments, message, capsys):
    before = (run / "recipe.yaml").read_bytes()
    assert main(quick(run, "--resume", *arguments)) == 2
    assert message in capsys.readouterr().err
    assert (run / "recipe.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("supernet.pt", b"broken", "supernet.pt cannot be read as a checkpoint"),
        ("gallery/resnet/model.pt", b"", "model.pt cannot be read as a checkpoint"),
        ("gallery/resnet/pool.npy", b"", "pool.npy cannot be read"),
        ("records.jsonl", b"{}\n", "records.jsonl, line 1 is not a record"),
        (
            "records.jsonl",
            b'{"n": 0, "query": {"arch": 3}, "galleries": []}\n',
            "records.jsonl, line 1 is not a record",
        ),
        ("manifest.json", b"{", "manifest.json cannot be read"),
        ("manifest.json", b"[]", "manifest.json has no 'test_opened'"),
        ("recipe.yaml", b"name: x\n", "recipe.yaml has"),
    ],
)
def test_damaged_artefacts_are_named(run, tmp_path, capsys, file, content, message):
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / file).write_bytes(content)
    assert main(quick(tmp_path / "copy", "--resume")) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_unknown_pick_names_those_there_are(run, capsys):
    assert main(["train", str(run), "--pick", "bets"]) == 2
    assert "unknown pick 'bets'. Did you mean 'best'?" in capsys.readouterr().err


def test_an_interrupted_run_needs_resume_and_a_foreign_folder_is_left_alone(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "front.json").unlink()
    assert main(quick(tmp_path / "copy")) == 2
    assert "holds an interrupted run; add --resume" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "copy")]) == 2
    assert "has no front.json; finish the search with" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    assert main(quick(tmp_path / "mine")) == 2
    assert "is not empty and not a run folder" in capsys.readouterr().err


def test_killed_while_training_the_pick_it_ends_with_the_same_weights(run, tmp_path):
    import torch

    weights = []
    for kill in (False, True):
        folder = tmp_path / f"run{kill}"
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("trained"))
        command = [sys.executable, "-m", "cmpnas", "train", str(folder), "--pick", "best"]
        if kill:
            process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            assert any(line.startswith("query: training") for line in process.stderr)
            process.kill()
            process.wait()
            process.stderr.close()
            assert not list(folder.glob("trained/*/network.pt"))
        subprocess.run(command, check=True, capture_output=True)
        weights.append(torch.load(next(folder.glob("trained/*/network.pt")), weights_only=True)["network"])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


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


@pytest.mark.parametrize(
    ("file", "arrays", "message"),
    [
        ("ours.npz", {"embeddings": np.full((72, 8), np.nan)}, "hold NaN or infinity, first in row 0"),
        ("ours.npz", {"embeddings": np.ones((71, 8))}, "holds 71 embeddings, the data set 72 items"),
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


_MOMENTS = [("gallery: training", 0), ("supernet: training", 0), ("search: ", 3), ("search: ", 6)]


@pytest.mark.parametrize(
    ("signal", "sign", "lines"),
    [(signal, *moment) for signal in ("SIGINT", "SIGKILL") for moment in _MOMENTS] + [("SIGTERM", "search: ", 4)],
)
def test_killed_in_any_stage_a_run_ends_with_the_same_bytes(run, tmp_path, signal, sign, lines):
    import signal as signals

    folder = tmp_path / "run"
    command = [sys.executable, "-m", "cmpnas", *quick(folder)]
    # A shell that runs us in the background has SIGINT ignored, which children inherit.
    heard = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    started = [sys.executable, "-c", f"{heard}; from cmpnas.cli.app import main; sys.exit(main())", *quick(folder)]
    process = subprocess.Popen(started, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert any(line.startswith(sign) for line in process.stderr)
    deadline = time.monotonic() + 60
    records = folder / "records.jsonl"
    while lines and time.monotonic() < deadline:
        if records.exists() and records.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.005)
    process.send_signal(getattr(signals, signal))
    status = process.wait(timeout=60)
    process.stderr.close()
    assert status == (130 if signal == "SIGINT" else -getattr(signals, signal))
    assert not (folder / "front.json").exists()
    subprocess.run([*command, "--resume"], check=True, capture_output=True, env=os.environ)
    for name in ("records.jsonl", "front.json"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()
