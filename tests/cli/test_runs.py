"""A run of pictures from search to bundle: what it leaves, what it goes on from, and what a kill or damage costs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.errors import RunError
from cmpnas.recipe import load_recipe
from cmpnas.run import RunFolder
from tests.conftest import QUICK


def quick(folder, *more):
    overrides = [part for override in QUICK for part in ("--set", override)]
    return ["search", "--run", str(folder), "--budget-mflops", "2", *overrides, *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(quick(folder)) == 0
    return folder


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


def test_what_another_run_found_is_all_that_is_evaluated(run, tmp_path, capsys):
    """Of the same seed and weights, so it scores what it scored there; and it is trained like any pick."""
    front = json.loads((run / "front.json").read_text())
    found = front["pairs"][-1]["query"]
    (tmp_path / "arch.json").write_text(json.dumps(found["arch"]))
    given = ["--arch", str(tmp_path / "arch.json"), "--trials", "1"]
    assert main([*quick(tmp_path / "run", *given), "--dry-run"]) == 0
    assert "1 evaluations by predictor, of which 1 known" in capsys.readouterr().out
    assert main(quick(tmp_path / "run", *given)) == 0
    first, here = (list(map(json.loads, (f / "records.jsonl").open())) for f in (run, tmp_path / "run"))
    (before,) = (line for line in first if line["query"]["id"] == found["id"])
    assert here == [before | {"n": 0}]
    pairs = json.loads((tmp_path / "run" / "front.json").read_text())["pairs"]
    assert [pair["query"]["id"] for pair in pairs] == [found["id"]]
    assert main(["train", str(tmp_path / "run"), "--pick", "best"]) == 0
    assert (tmp_path / "run" / "trained" / found["id"] / "network.pt").exists()
    # On with two more, which the controller proposes; but not with another architecture in its place.
    assert main(quick(tmp_path / "run", "--resume", *given[:2], "--trials", "3")) == 0
    more = list(map(json.loads, (tmp_path / "run" / "records.jsonl").open()))
    assert more[:1] == here
    assert len({line["query"]["id"] for line in more}) == 3
    assert main(quick(tmp_path / "run", "--resume", "--trials", "3")) == 2
    assert "search.known" in capsys.readouterr().err


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


def test_homogeneous_of_all_after_that_of_the_front(run, tmp_path, capsys):
    """What an earlier setting left out is made up for."""
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("front.*"))
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    for line in lines[:5]:
        del line["homogeneous"]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(quick(folder, "--resume")) == 0
    assert (folder / "front.json").read_bytes() == (run / "front.json").read_bytes()
    whole = (run / "records.jsonl").read_bytes()
    assert (folder / "records.jsonl").read_bytes() == whole
    assert main(quick(folder, "--resume", "--set", "search.homogeneous=front")) == 0
    assert "off the front is left out, as search.homogeneous has it" in capsys.readouterr().err
    assert (folder / "records.jsonl").read_bytes() != whole
    assert main(quick(folder, "--resume")) == 0
    assert (folder / "records.jsonl").read_bytes() == whole


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
        "paragon", "heterogeneous", "aligned", "joined", "homogeneous", "untrained",
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
    assert result["verdicts"][0]["below"]["text"] in page
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
