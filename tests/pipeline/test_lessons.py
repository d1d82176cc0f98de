"""Picks that learn from what the search was judged on, once it has chosen them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.data.augment import augment, draws
from cmpnas.data.images import to_float
from cmpnas.errors import RunError
from cmpnas.files import hash_file, read_json
from cmpnas.pipeline import rank
from cmpnas.pipeline.evaluate import open_split
from cmpnas.pipeline.stages import Stages
from tests.cli.test_train import quick

HOW = ("query.views=2", "query.mixtures=0.5", "query.augment={flip: 0.5, zoom: 0.2}", "search.trials=6")
SEARCH = "data.finish={split: search}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search whose pick learned from its split."""
    folder = tmp_path_factory.mktemp("lessons") / "run"
    assert main(quick(folder, *HOW, SEARCH)) == 0
    assert main(["train", str(folder), "--pick", "cheapest"]) == 0
    return folder


@pytest.fixture(scope="module")
def stages(run):
    return Stages.of_run(run, None, print)


def test_a_pick_learns_from_more_than_the_supernet_did(stages):
    """Targets are what the gallery model says of just these pictures, blends and views."""
    splits, ours, more = stages.splits, stages.lessons, stages.picks_lessons
    task, rows = splits.search, splits.beside.items.rows
    assert sorted(rows) == sorted([*task.query.rows, *task.gallery.rows])
    n, beside = len(ours.items), len(task.query) + len(task.gallery)
    assert n == round(1.5 * len(splits.pool))
    assert len(more.items) == len(more.anchor.embeddings) == len(more.anchor.labels) == n + round(1.5 * beside)
    assert (more.anchor.labels[n:] == -1).all()
    assert torch.equal(more.anchor.classifier, ours.anchor.classifier)
    assert torch.equal(more.anchor.embeddings[:n], ours.anchor.embeddings)
    place = n + np.flatnonzero(rows == task.query.rows[0])[0]
    assert torch.equal(more.items.images.read(np.array([place])), task.query.images.read(np.array([0])))
    some = np.array([n + beside, 0, n, len(more.items) - 1, n - 1, place])
    pictures, encode = to_float(more.items.images.read(some)), stages.gallery.encoder
    assert np.abs(more.anchor.embeddings[some].numpy() - encode(pictures).cpu().numpy()).max() < 1e-4
    for view in (0, 1):
        shown = augment(pictures, stages.recipe.query.augment, draws(torch.from_numpy(some), view))
        target, labels = more.anchor.look(torch.from_numpy(some), view)
        assert np.abs(target.numpy() - encode(shown).cpu().numpy()).max() < 2e-3
        assert torch.equal(labels, more.anchor.labels[some])


def test_the_search_and_the_supernet_know_nothing_of_it(run, stages, tmp_path, capsys):
    """A run without it is the same run up to its front, and goes on with it."""
    other = tmp_path / "run"
    assert main(quick(other, *HOW)) == 0
    assert (other / "records.jsonl").read_bytes() == (run / "records.jsonl").read_bytes()
    train = ["train", str(other), "--pick", "cheapest", "--json"]
    capsys.readouterr()
    assert main(train) == 0
    result = json.loads(capsys.readouterr().out)
    network = f"trained/{result['id']}/network.pt"
    assert result["trained"]["heterogeneous"] > 0
    assert hash_file(other / network) != hash_file(run / network)
    assert main([*quick(other, *HOW, SEARCH), "--resume"]) == 0
    assert "recipe: data.finish is {'split': 'search'} from now on; it was None" in capsys.readouterr().err
    assert Stages.of_run(other, None, print).supernet_key == stages.supernet_key
    assert main(train) == 2
    assert "was trained with other data or settings; take the change back" in capsys.readouterr().err
    shutil.rmtree(other / "trained")
    assert main(train) == 0
    assert json.loads(capsys.readouterr().out)["trained"] is None
    assert hash_file(other / network) == hash_file(run / network)


def test_what_was_embedded_of_other_pictures_is_embedded_again(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    assert len(Stages.of_run(folder, None, print).picks_lessons.items)
    assert main([*quick(folder, *HOW, "data.finish={split: search, role: catalogue}"), "--resume"]) == 0
    stages = Stages.of_run(folder, None, print)
    n, more = len(stages.lessons.items), stages.picks_lessons
    assert len(more.items) - n == len(more.anchor.embeddings) - n == round(1.5 * len(stages.splits.search.gallery))
    some = np.arange(n, len(more.items), 7)
    expected = stages.gallery.encoder(to_float(more.items.images.read(some))).cpu().numpy()
    assert np.abs(more.anchor.embeddings[some].numpy() - expected).max() < 1e-4


def test_the_split_no_longer_judges_what_learned_from_it(run, tmp_path, capsys):
    folder = str(shutil.copytree(run, tmp_path / "run"))
    assert main(["train", folder, "--pick", "cheapest"]) == 0
    assert "on pictures of that split too (data.finish): the test split alone can judge it" in capsys.readouterr().out
    assert main(["evaluate", folder, "--split", "search"]) == 0
    assert "learned from the search split (data.finish); test judges it" in capsys.readouterr().err
    table = read_json(tmp_path / "run" / "evaluation.search.json")
    assert [system["kind"] for system in table["systems"]] == ["paragon"]
    assert not table["verdicts"]
    with pytest.raises(RunError, match="learned from pictures of the search split"):
        open_split(Stages.of_run(tmp_path / "run", None, print), "search")
    assert main(["evaluate", folder]) == 0
    table = read_json(tmp_path / "run" / "evaluation.test.json")
    assert not table["index_is_learned"]
    assert not any("learned" in verdict["text"] for verdict in table["verdicts"])
    capsys.readouterr()
    assert main(["export", folder, "--pick", "cheapest", "--out", str(tmp_path / "bundle")]) == 0
    assert "search split (it learned from it)" in capsys.readouterr().out
    index = str(next((tmp_path / "run" / "gallery").rglob("index.faiss")))
    assert main(["verify", str(tmp_path / "bundle"), "--index", index]) == 0
    assert "pictures that the encoder learned from, which flatter it" in capsys.readouterr().out
    assert "whose pictures it learned from: the score flatters it" in (tmp_path / "bundle" / "README.md").read_text()
    assert read_json(tmp_path / "bundle" / "manifest.json")["scores"]["learned_from_split"] is True
    assert main(["report", folder]) == 0
    assert "trained on these pictures too" in (tmp_path / "run" / "report.html").read_text()


def test_an_index_teaches_what_will_ask_in_it(run, tmp_path, capsys):
    """Pictures of both galleries, of no query; whatever is then said of finished networks tells."""
    folder = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(folder / "trained")
    index = "data.finish=[{split: search, role: catalogue}, {split: test, role: catalogue}]"
    assert main([*quick(folder, *HOW, index), "--resume"]) == 0
    splits = Stages.of_run(folder, None, print).splits
    learned = splits.beside.items.rows
    assert sorted(learned) == sorted([*splits.search.gallery.rows, *splits.test.gallery.rows])
    capsys.readouterr()
    assert main(["train", str(folder), "--pick", "cheapest"]) == 0
    said = capsys.readouterr().out
    assert "trained           M(q,g) 0." in said
    assert "from pictures of this index too (data.finish)" in said
    for split in ("search", "test"):
        assert main(["evaluate", str(folder), "--split", split, "--json"]) == 0
        table = json.loads(capsys.readouterr().out)
        assert table["index_is_learned"]
        assert {verdict["kind"] for verdict in table["verdicts"]} == {"heterogeneous", "aligned", "joined"}
        assert all(", which learned from this index's pictures" in verdict["text"] for verdict in table["verdicts"])
    bundle = tmp_path / "bundle"
    assert main(["export", str(folder), "--pick", "cheapest", "--out", str(bundle)]) == 0
    assert "search split (it learned from the pictures of its index)" in capsys.readouterr().out
    assert "it learned from the pictures of that index, not from these queries" in (bundle / "README.md").read_text()
    index = next((folder / "gallery").rglob("index.faiss"))
    assert main(["verify", str(bundle), "--index", str(index)]) == 0
    assert "scores in an index of pictures that the encoder learned from" in capsys.readouterr().out


def test_the_certificate_is_of_the_pool_alone(run, stages, tmp_path, monkeypatch, capsys):
    """Its networks are judged on the search split."""
    learned = []

    def learn(stages, how, lessons, saved):
        learned.append(lessons)
        raise RunError("enough")

    monkeypatch.setattr(rank, "learn", learn)
    assert main(["rank", str(shutil.copytree(run, tmp_path / "run")), "--architectures", "3"]) == 2
    assert "enough" in capsys.readouterr().err
    assert len(learned[0].items) == len(learned[0].anchor.labels) == len(stages.lessons.items)


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        ("{split: test}", "items are in both finish and test.query (first: item"),
        ("[{split: search}, {split: test, role: consumer}]", "items are in both finish and test.query (first: item"),
        ("{split: train, role: consumer}", "all items of data.finish are in the pool; give it others, or leave it out"),
        ("{split: nowhere}", "no item is in finish: nothing meets {'split': 'nowhere'}"),
        ("[{split: search}, {split: nowhere}]", "no item is in finish: nothing meets {'split': 'nowhere'}"),
        ("[]", "data.finish: list should have at least 1 item"),
        ("everything", "data.finish: input should be a valid dictionary (got 'everything')"),
    ],
)
def test_what_picks_may_not_learn_from(finish, message, tmp_path, capsys):
    assert main(quick(tmp_path / "run", f"data.finish={finish}")) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "supernet.pt").exists()
