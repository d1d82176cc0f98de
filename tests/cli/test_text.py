"""A text run from recipe to bundle by the commands a user types, and every mistake on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.data.images import ArrayImages
from cmpnas.run import TextRunFolder
from cmpnas.search.controllers import make_controller

pytest.importorskip("tokenizers")
TINY = (
    "data.size=16", "data.train_identities=48", "data.search_identities=12", "data.test_identities=12",
    "data.train_shots=[2, 0]", "data.other_shots=[4, 0]", "regions.space=tiny", "regions.arch=smallest",
    "regions.until=stage1",
    "fine.text.vocabulary=64", "fine.text.width=16", "fine.text.layers=1", "fine.text.heads=2", "fine.dim=16",
    "fine.similarity=8", "fine.negatives=3", "fine.train={epochs: 2, batch_size: 16, lr: 0.003}",
    "coarse.space={vocabulary: [48, 64], width: [8, 16], layers: 1, heads: 2, ratio: 1}", "coarse.dim=16",
    "coarse.supernet={epochs: 2, batch_size: 16, lr: 0.003}", "coarse.train={epochs: 1, batch_size: 16, lr: 0.003}",
    "search.trials=8", "search.population=4", "search.ks=[2, 5, 10]",
)  # fmt: skip
SETS = [part for override in TINY for part in ("--set", override)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text") / "run"
    assert main(["search", "--recipe", "shop_text", "--run", str(folder), *SETS]) == 0
    assert main(["train", str(folder), "--pick", "best"]) == 0
    return folder


def test_a_search_leaves_a_front_of_encoders_and_numbers_of_candidates(run):
    front = json.loads((run / "front.json").read_text())
    assert front["task"] == "text"
    spent = [pair["query"]["mflops"] for pair in front["pairs"]]
    scores = [pair["scores"]["heterogeneous"] for pair in front["pairs"]]
    assert spent == sorted(spent)
    assert scores == sorted(scores)
    assert all(pair["k"] in (2, 5, 10) for pair in front["pairs"])
    records = [json.loads(line)["galleries"] for line in (run / "records.jsonl").read_text().splitlines()]
    assert len(records) == 8
    for by_k in records:  # more candidates are never expected to find less
        assert by_k["k2"]["heterogeneous"] <= by_k["k5"]["heterogeneous"] <= by_k["k10"]["heterogeneous"]
    assert any(by_k["k2"]["heterogeneous"] < by_k["k10"]["heterogeneous"] for by_k in records)


def test_a_repeated_search_changes_nothing(run, capsys):
    kept = {name: (run / name).read_bytes() for name in ("records.jsonl", "front.json", "fine.pt", "supernet.pt")}
    assert main(["search", "--recipe", str(run / "recipe.yaml"), "--run", str(run), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "text"
    assert {name: (run / name).read_bytes() for name in kept} == kept


def test_an_encoder_that_is_known_is_all_that_is_evaluated(run, tmp_path):
    last = json.loads((run / "records.jsonl").read_text().splitlines()[-1])
    (tmp_path / "arch.json").write_text(json.dumps(last["query"]["arch"]))
    given = ["--arch", str(tmp_path / "arch.json"), "--trials", "1"]
    assert main(["search", "--recipe", str(run / "recipe.yaml"), "--run", str(tmp_path / "run"), *given]) == 0
    (line,) = (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    assert json.loads(line) == last | {"n": 0}


def test_a_controller_is_told_costs_as_it_plans_by_them(run, tmp_path, monkeypatch):
    told = []

    def recorded(*about, **settings):
        controller = make_controller(*about, **settings)
        tell = controller.tell
        controller.tell = lambda arch, score, cost: told.append((arch, cost)) or tell(arch, score, cost)
        return controller

    monkeypatch.setattr("cmpnas.pipeline.crisp.search.make_controller", recorded)
    folder = shutil.copytree(run, tmp_path / "run")
    assert main(["search", "--recipe", str(folder / "recipe.yaml"), "--run", str(folder), "--resume"]) == 0
    space = TextRunFolder.open(folder).recipe.space()
    assert len(told) == 8
    assert all(cost == space.cost(arch).mflops for arch, cost in told)


def test_a_plan_is_of_its_weights(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    picked = json.loads((folder / "picked.json").read_text())
    (folder / "picked.json").write_text(json.dumps(picked | {"key": "of others"}))
    assert main(["retrieve", str(folder), "a red mug"]) == 2
    assert "plans for weights of other settings; run: cmpnas train" in capsys.readouterr().err


def test_the_final_table_has_every_system(run, capsys):
    assert json.loads((run / "manifest.json").read_text())["test_opened"] == []
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    by_name = {system["name"]: system for system in result["systems"]}
    k = result["plan"]["k"]
    both = {"both"} if result["plan"]["weight"] else set()
    assert set(by_name) == {"coarse", "fine", "cascade 5", "cascade 10", "cascade 20", f"cascade {k}"} | both
    assert result["gallery_items"] == 48
    assert by_name["coarse"]["bytes"] == 4 * 16
    assert by_name["cascade 5"]["bytes"] == 4 * 16 + by_name["fine"]["bytes"]
    assert by_name["coarse"]["mflops"] < by_name["cascade 5"]["mflops"] < by_name["fine"]["mflops"]
    assert by_name["coarse"]["scores"]["hit@10"] == pytest.approx(by_name["cascade 10"]["scores"]["hit@10"])
    assert result["plan"]["measured_hit"] == by_name[f"cascade {k}"]["scores"]["hit@1"]
    assert len(json.loads((run / "manifest.json").read_text())["test_opened"]) == 1
    assert main(["evaluate", str(run), "--split", "search"]) == 0
    assert "planned k = " in capsys.readouterr().out
    # On the split where it was made a plan knows what all pictures find.
    result = json.loads((run / "evaluation.search.json").read_text())
    by_name = {system["name"]: system["scores"]["hit@1"] for system in result["systems"]}
    assert 0 <= result["plan"]["hit"] <= result["plan"]["scan_hit"]
    assert result["plan"]["scan_hit"] == pytest.approx(by_name["both" if result["plan"]["weight"] else "fine"])


def test_both_scores_make_the_order_and_the_records(run, capsys, monkeypatch):
    """With all weight on the coarse score a cascade's order, and what the search scores, are the coarse model's."""
    (run / "evaluation.search.json").unlink(missing_ok=True)
    from cmpnas.pipeline.crisp import search
    from cmpnas.pipeline.crisp.finish import Searcher, picked
    from cmpnas.pipeline.crisp.stages import TextStages
    from cmpnas.retrieval.weighing import Odds

    stages = TextStages.of_run(run, None, print)
    arch, network, pool, _ = picked(stages)
    searcher, query = Searcher.over(stages, "search", arch, network, pool), "a red mug"
    similarity = (searcher.encoder([query]) @ searcher.vectors.T)[0]
    kept = (run / "picked.json").read_text()
    content = json.loads(kept)
    orders = {}
    for weight in (0.0, 1e6):
        content["plan"]["plan"] |= {"weight": weight, "k": 10}
        (run / "picked.json").write_text(json.dumps(content))
        assert main(["retrieve", str(run), query, "--split", "search", "--json"]) == 0
        orders[weight] = [line["row"] for line in json.loads(capsys.readouterr().out)["found"]]
    (run / "picked.json").write_text(kept)
    assert orders[1e6] == np.argsort(-similarity, kind="stable")[:10].tolist() != orders[0.0]
    assert sorted(orders[0.0]) == sorted(orders[1e6])
    monkeypatch.setattr(Odds, "learned", lambda *_: Odds(1.0, 1e6))
    record = search.TextEvaluator(stages)(0, arch)
    assert {score.heterogeneous for score in record.galleries.values()} == {record.homogeneous}


def test_pictures_are_found_and_drawn(run, capsys):
    from PIL import Image

    assert main(["retrieve", str(run), "a red mug", "--show", "7", "--split", "search"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].split()[0] == "1"
    assert lines[0].split()[3] == "a"  # a caption
    assert Image.open(run / "retrieved.png").size == (5 * 128, 2 * 128)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the query '' is empty; describe a picture in words."),
        ("日本 語", "nothing in the query '日本 語' is known"),
        ("a red mug " * 9, "tokens; this run reads at most 20: shorten it."),
    ],
)
def test_bad_queries_end_in_one_line(run, capsys, query, message):
    assert main(["retrieve", str(run), query]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_bundle_answers_without_torch_and_cmpnas(run, tmp_path, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / "bundle"), "--json"]) == 0
    check = json.loads(capsys.readouterr().out)["check"]
    assert check["max_abs_difference"] < 1e-4
    assert check["script_same_top10"]
    left = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert left == {"query.onnx", "tokeniser.json", "pictures.npy", "names.json", "query.py", "manifest.json"}
    for words, message in (
        (["\u0436"], "nothing in this query is known"), ([""], "nothing in this query is known"),
        (["a red mug " * 40], "this query is longer than 20 tokens"), ([], "give a query and how many rows"),
        (["a red mug", "x"], "give a query and how many rows"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, tmp_path / "bundle" / "query.py", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {message}")
        assert done.stderr.count("\n") == 1


def test_equal_pictures_may_come_in_either_order(run, tmp_path, monkeypatch):
    from cmpnas.export import text

    asked = text.ask_script
    monkeypatch.setattr(text, "ask_script", lambda out, query: [13 - row for row in asked(out, query)])
    monkeypatch.setattr(
        "cmpnas.pipeline.crisp.export.indexed", lambda *_: np.tile(np.eye(16, dtype=np.float32)[:1], (14, 1))
    )
    assert main(["export", str(run), "--out", str(tmp_path / "bundle")]) == 0


def test_what_is_not_for_texts_is_refused(run, capsys):
    for option in (["--pick", "cheapest"], ["--tolerance", "0.5"], ["--int8"]):
        assert main(["export", str(run), *option]) == 2
        assert "the encoder finished last is exported" in capsys.readouterr().err


def test_a_script_that_finds_others_leaves_no_bundle(run, tmp_path, monkeypatch, capsys):
    from cmpnas.export import text

    monkeypatch.setattr(text, "ask_script", lambda out, query: [0] * 10)
    assert main(["export", str(run), "--out", str(tmp_path / "bundle")]) == 2
    assert "finds other pictures than torch" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_pictures_that_were_put_right_are_looked_at_again(run):
    from dataclasses import replace

    from cmpnas.pipeline.crisp.stages import TextStages

    stages = TextStages.of_run(run, None, print)
    before, items = stages.split_key("search"), stages.splits.search.items
    images = items.images.read(np.arange(len(items)))
    images[3] = 255 - images[3]
    stages.splits.search = replace(stages.splits.search, items=replace(items, images=ArrayImages(images)))
    assert stages.split_key("search") != before
    assert TextStages.of_run(run, None, print).split_key("search") == before


def test_an_interrupted_scan_goes_on_where_it_was(run, monkeypatch):
    from cmpnas.export.cascade import FineSession
    from cmpnas.pipeline.crisp.fine import fine_table
    from cmpnas.pipeline.crisp.stages import TextStages

    stages, asked, scan = TextStages.of_run(run, None, print), [], FineSession.scan
    before = np.array(fine_table(stages))
    (run / "index" / "search.scores.json").unlink()

    def killed(session, texts):
        if asked:
            raise KeyboardInterrupt
        asked.extend(texts)
        return scan(session, texts)

    monkeypatch.setattr(FineSession, "scan", killed)
    monkeypatch.setattr("cmpnas.pipeline.crisp.fine._AT_ONCE", {True: 4, False: 4})
    with pytest.raises(KeyboardInterrupt):
        fine_table(stages)
    monkeypatch.setattr(FineSession, "scan", lambda session, texts: asked.extend(texts) or scan(session, texts))
    assert (fine_table(stages) == before).all()
    assert sorted(asked) == sorted(stages.pairs("search").captions)  # none twice
    assert not list((run / "index").glob("search.scores.*.npy"))


def test_other_processes_wait_for_what_makes_files(run, capsys, tmp_path):
    from cmpnas.run import TextRunFolder

    with TextRunFolder.open(run).locked():
        for command in (["retrieve", str(run), "a red mug"], ["export", str(run), "--out", str(tmp_path / "bundle")]):
            assert main(command) == 2
            assert "another process is working on" in capsys.readouterr().err


def test_a_split_that_was_evaluated_has_its_own_plan(run, capsys):
    assert main(["evaluate", str(run), "--split", "search"]) == 0
    kept = (run / "evaluation.search.json").read_text()
    content = json.loads(kept)
    content["plan"]["k"] = 23
    (run / "evaluation.search.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["retrieve", str(run), "a red mug", "--split", "search", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["k"] == 23
    (run / "evaluation.search.json").write_text(json.dumps(content | {"key": "of others"}))
    assert main(["retrieve", str(run), "a red mug", "--split", "search", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["k"] != 23
    (run / "evaluation.search.json").unlink()
    assert main(["retrieve", str(run), "a red mug", "--split", "search", "--json"]) == 0
    planned = json.loads((run / "picked.json").read_text())["plan"]["plan"]["k"]
    assert json.loads(capsys.readouterr().out)["k"] == max(planned, 10)


def test_commands_for_pictures_say_so(run, capsys):
    assert main(["plot", str(run)]) == 2
    assert "is a run of texts (task: text); this command is not for those." in capsys.readouterr().err
    assert main(["train", str(run), "--start", "scratch"]) == 2
    assert "a text run keeps to its recipe" in capsys.readouterr().err


def test_budgets_are_of_the_whole_query(run, capsys, tmp_path):
    assert main(["search", "--recipe", "shop_text", "--dry-run", "--json", "--budget-mflops", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["budget"] == {"mflops": 3.0}
    for limit in ("--budget-params-m", "--budget-mflops"):  # told by a dry run: less than any encoder alone
        assert main(["search", "--recipe", "shop_text", "--dry-run", limit, "0.0001"]) == 2
        assert "the smallest reachable is" in capsys.readouterr().err
    wrong = ["--set", "regions.arch={stage1.width: 33}"]
    assert main(["search", "--recipe", "shop_text", "--dry-run", *wrong]) == 2
    assert "33" in capsys.readouterr().err
    again = ["search", "--recipe", "shop_text", "--run", str(tmp_path / "run"), *SETS, "--budget-mflops", "0.01"]
    assert main(again) == 2
    assert "are spent before its encoder runs" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--workers", "2"], ["--engine", "nni"], ["--storage", "journal:x"]])
def test_options_of_pictures_are_refused(option, capsys, monkeypatch):
    monkeypatch.delenv("CMPNAS_STORAGE", raising=False)
    assert main(["search", "--recipe", "shop_text", "--dry-run", *option]) == 2
    assert "--workers, --storage, --engine and --nni-config are for recipes of pictures" in capsys.readouterr().err
    monkeypatch.setenv("CMPNAS_STORAGE", "journal:x")
    assert main(["search", "--recipe", "shop_text", "--dry-run"]) == 0


def test_batches_that_cannot_be_are_told_before_anything_is_trained(tmp_path, capsys):
    large = ["--set", "coarse.train.batch_size=4096"]
    assert main(["search", "--recipe", "shop_text", "--run", str(tmp_path / "run"), *SETS, *large]) == 2
    assert "96 training images are fewer than one batch of 4096" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_scores_of_other_captions_are_not_gone_on_with(run, capsys):
    again = ["search", "--recipe", "shop_text", "--run", str(run), *SETS, "--resume", "--set", "search.queries=5"]
    assert main(again) == 2
    assert "search.queries is None there, 5 here" in capsys.readouterr().err


def test_wrong_recipes_list_every_mistake(capsys):
    wrong = ["coarse.pool=max", "fine.text.width=[16, 32]", "search.within=2", "coarse.space.heads=5"]
    assert main(["search", "--recipe", "shop_text", *(p for w in wrong for p in ("--set", w))]) == 2
    message = capsys.readouterr().err
    assert "has 4 mistakes" in message
    assert "a width of 32 cannot be cut into 5 heads" in message
    assert "width has several values" in message


@pytest.mark.parametrize("template", ["{caption", "{label:d}", "{label!r}", "{label.real}", "{}"])
def test_a_template_holds_columns_alone(capsys, template):
    assert main(["search", "--recipe", "shop_text", "--dry-run", "--set", f"captions.query='{template}'"]) == 2
    error = capsys.readouterr().err
    assert "captions.query: " in error
    assert "as in '{name}, {keywords}'" in error


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["coarse.loss.regression=1"], "onto the fine model's summaries; set pool to summary, not weighted"),
        (["coarse.pool=summary", "coarse.dim=129"], "the fine model's summaries have 128 numbers; 129 is more"),
        (["coarse.loss={infonce: 0, triplet: 0, distil: 0}"], "every weight is 0, and nothing would be learned"),
    ],
)
def test_a_coarse_model_that_cannot_learn_is_refused(capsys, wrong, told):
    assert main(["search", "--recipe", "shop_text", *(p for w in wrong for p in ("--set", w))]) == 2
    assert told in capsys.readouterr().err


def test_texts_learn_the_language_of_summaries(tmp_path, capsys):
    """From search to bundle with pictures that are the fine model's own."""
    learning = ["coarse.pool=summary", "coarse.loss={infonce: 0, triplet: 0, distil: 0, regression: 10}"]
    folder = str(tmp_path / "run")
    sets = [*SETS, *(part for one in learning for part in ("--set", one))]
    search = ["search", "--recipe", "shop_text", "--run", folder, *sets]
    assert main(search) == 0
    supernet = tmp_path / "run" / "supernet.pt"
    learned = torch.load(supernet)["shared"]
    supernet.unlink()  # as if killed between the fine model and the supernet's first checkpoint
    assert main([*search, "--resume"]) == 0
    again = torch.load(supernet)["shared"]
    assert all(torch.equal(weights, again[name]) for name, weights in learned.items())
    assert main(["train", folder, "--pick", "best"]) == 0
    assert main(["evaluate", folder]) == 0
    assert main(["export", folder, "--out", str(tmp_path / "bundle")]) == 0
    assert (tmp_path / "bundle" / "pictures.npy").exists()


def test_works_that_are_timed_take_turns_and_the_best_go_at_each_text_counts(monkeypatch):
    from cmpnas.pipeline.crisp import times

    clock, asked = [0.0], []

    def work(name: str, seconds: dict[str, list[float]]):
        def one(text: str) -> None:
            asked.append(name + text)
            clock[0] += seconds[text].pop(0)

        return one, list(seconds)

    monkeypatch.setattr(times.time, "process_time", lambda: clock[0])
    slow = {"a": [9.0, 4.0, 7.0, 5.0], "b": [1.0, 1.0, 1.0, 1.0], "c": [6.0, 6.0, 2.0, 8.0]}
    taken = times.milliseconds({"one": work("1", slow), "two": work("2", {"a": [3.0, 3.0, 3.0, 0.5]})})
    assert taken == {"one": 2000.0, "two": 500.0}
    assert asked == ["1a", "1b", "1c", "2a"] * 4
