"""``cmpnas rank``: a certificate that can be interrupted, added to, and not mistaken for another's."""

from __future__ import annotations

import json
import shutil

import pytest

from cmpnas.cli.app import main
from cmpnas.pipeline import rank as pipeline
from cmpnas.train import loop
from tests.conftest import QUICK

TINY = (*QUICK, "query.space=tiny", "search.trials=4", "search.population=4", "query.train.batch_size=16")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rank") / "run"
    overrides = [part for override in TINY for part in ("--set", override)]
    assert main(["search", "--run", str(folder), "--budget-mflops", "1", *overrides]) == 0
    return folder


@pytest.fixture(scope="module")
def ranked(searched, tmp_path_factory):
    return finished(searched, tmp_path_factory.mktemp("ranked") / "run", "4")


def finished(searched, folder, count):
    shutil.copytree(searched, folder, dirs_exist_ok=True)
    assert main(["rank", str(folder), "--architectures", count]) == 0
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "rank.jsonl").read_text().splitlines()]


def test_each_architecture_is_scored_both_ways(ranked):
    found = lines(ranked)
    assert [line["n"] for line in found] == list(range(4))
    assert len({line["query"]["id"] for line in found}) == 4
    assert all(line["query"]["mflops"] <= 1 for line in found)
    assert len({line["key"] for line in found}) == 1
    assert "seconds" not in (ranked / "rank.jsonl").read_text()
    result = json.loads((ranked / "rank.json").read_text())
    assert result["n"] == 4
    assert -1 <= result["kendall"]["value"] <= 1
    assert (ranked / "rank.png").stat().st_size > 0
    assert not list(ranked.glob("rank.*.checkpoint.pt"))


def test_the_supernets_scores_are_those_of_the_search(ranked):
    from cmpnas.gallery.base import Indexed
    from cmpnas.pipeline.stages import Stages
    from cmpnas.search.evaluator import Evaluator

    stages = Stages.of_run(ranked, None, print)
    evaluator = Evaluator(
        stages.supernet, stages.splits.pool, stages.splits.search, {"resnet": Indexed(stages.embedded.gallery)},
        metric="map@r", calibration_images=32,
    )  # fmt: skip
    for line in lines(ranked)[:2]:
        record = evaluator(line["n"], stages.space.from_json(line["query"]["arch"])).to_json()
        assert record["query"] == line["query"]
        assert record["galleries"]["resnet"] == line["supernet"]


def test_the_alone_network_starts_fresh(ranked, tmp_path, monkeypatch):
    """Other weights in the supernet change its column and leave the other as it was."""
    import torch

    shutil.copytree(ranked, tmp_path / "run")
    (tmp_path / "run" / "rank.jsonl").unlink()
    state = torch.load(tmp_path / "run" / "supernet.pt", weights_only=True)
    state["shared"] = {name: torch.randn_like(value) for name, value in state["shared"].items()}
    torch.save(state, tmp_path / "run" / "supernet.pt")
    assert main(["rank", str(tmp_path / "run"), "--architectures", "3"]) == 0
    before, after = lines(ranked)[:3], lines(tmp_path / "run")
    assert [line["alone"] for line in after] == [line["alone"] for line in before]
    assert [line["supernet"] for line in after] != [line["supernet"] for line in before]


def test_more_architectures_go_on_and_fewer_keep_what_there_is(searched, ranked, tmp_path, capsys):
    folder = finished(searched, tmp_path / "run", "3")
    for count in ("4", "3"):
        capsys.readouterr()
        assert main(["rank", str(folder), "--architectures", count, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["n"] == 4
        assert (folder / "rank.jsonl").read_bytes() == (ranked / "rank.jsonl").read_bytes()
        assert (folder / "rank.json").read_bytes() == (ranked / "rank.json").read_bytes()


@pytest.mark.parametrize("at", [1, 25])
def test_interrupted_it_ends_with_the_same_bytes(searched, ranked, tmp_path, monkeypatch, capsys, at):
    """Stopped within the first training and within a later one, in a line that is half written."""
    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    monkeypatch.setattr(loop, "_SAVE_EVERY", 0.0)
    steps, saved = [], loop._State.save

    def save(self, step, path):
        saved(self, step, path)
        steps.append(step)
        if len(steps) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._State, "save", save)
    assert main(["rank", str(folder), "--architectures", "4"]) == 130
    assert "Repeat the command to continue." in capsys.readouterr().err
    assert len(list(folder.glob("rank.*.checkpoint.pt"))) == 1
    stopped_at, done = steps[-1], (folder / "rank.jsonl").exists()
    assert done == (at > 1)
    with (folder / "rank.jsonl").open("a") as file:
        file.write('{"n": ')
    assert main(["rank", str(folder), "--architectures", "4"]) == 0
    assert steps[at] == stopped_at + 1
    for name in ("rank.jsonl", "rank.json"):
        assert (folder / name).read_bytes() == (ranked / name).read_bytes()
    assert not list(folder.glob("rank.*.checkpoint.pt"))


def test_a_ranking_of_other_settings_is_refused_and_left_alone(ranked, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(ranked, folder)
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe.replace("calibration_images: 32", "calibration_images: 48"))
    with (folder / "rank.jsonl").open("a") as file:
        file.write('{"n": ')
    before = (folder / "rank.jsonl").read_bytes()
    assert main(["rank", str(folder)]) == 2
    assert "rank.jsonl was made with other settings (line 1); move it away" in capsys.readouterr().err
    assert (folder / "rank.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{}\n" + text, "line 1 is not of a ranking"),
        (lambda text: "[]\n", "line 1 is not of a ranking"),
        (lambda text: "".join(reversed(text.splitlines(keepends=True))), "line 1 is out of order"),
        (lambda text: text.replace('"interval"', '"other"'), "line 1 is not of a ranking"),
        (lambda text: text.replace('"heterogeneous": ', '"heterogeneous": NaN, "": '), "a score is not a number"),
        (lambda text: text.replace('"mflops": ', '"mflops": "1", "": '), "line 1 is not of a ranking"),
        (lambda text: text.replace('"n": 2', '"n": 3'), "line 3 is out of order"),
    ],
)
def test_a_damaged_ranking_is_named(ranked, tmp_path, capsys, change, message):
    folder = tmp_path / "run"
    shutil.copytree(ranked, folder)
    (folder / "rank.jsonl").write_text(change((folder / "rank.jsonl").read_text()))
    assert main(["rank", str(folder), "--architectures", "4"]) == 2
    assert message in capsys.readouterr().err


def test_mistakes(searched, tmp_path, capsys):
    for count in ("2", "0", "-3"):
        assert main(["rank", str(searched), "--architectures", count]) == 2
        assert "give at least 3" in capsys.readouterr().err
    shutil.copytree(searched, tmp_path / "run")
    (tmp_path / "run" / "supernet.pt").unlink()
    assert main(["rank", str(tmp_path / "run")]) == 2
    assert "has no supernet.pt; finish the search with: cmpnas search --recipe" in capsys.readouterr().err
    assert not (tmp_path / "run" / "rank.jsonl").exists()


def test_a_run_that_is_worked_on_is_left_alone(searched, capsys):
    from cmpnas.run import RunFolder

    with RunFolder.open(searched).locked():
        assert main(["rank", str(searched)]) == 2
    assert "another process is working on" in capsys.readouterr().err


def test_of_a_small_space_all_are_taken(small):
    budget = pipeline.Budget()
    total = small.count()
    every = pipeline._distinct(small, budget, 0, total + 5)
    assert len(set(every)) == len(every) == total
    assert pipeline._distinct(small, budget, 0, 7) == every[:7]
    assert pipeline._distinct(small, budget, 1, 7) != every[:7]
    tight = pipeline.Budget(mflops=small.cost(small.extremes()[0]).mflops)
    assert pipeline._distinct(small, tight, 0, 9) == [small.extremes()[0]]


def test_the_draw_is_uniform_over_architectures(small):
    drawn = [pipeline._distinct(small, pipeline.Budget(), seed, 4) for seed in range(0, 4000, 7)]
    total = small.count()
    place = {arch: n for n, arch in enumerate(pipeline._distinct(small, pipeline.Budget(), 9, total))}
    halves = sum(place[arch] < total // 2 for archs in drawn for arch in archs) / (4 * len(drawn))
    assert abs(halves - (total // 2) / total) < 0.05
