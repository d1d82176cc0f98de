"""``cmpnas train``: picks as the recipe has them, and variants to compare them with."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from cmpnas.cli.app import main
from tests.conftest import QUICK


def quick(run, *more: str) -> list[str]:
    return ["search", "--run", str(run), *(part for override in (*QUICK, *more) for part in ("--set", override))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search in two views of each picture."""
    folder = tmp_path_factory.mktemp("train") / "run"
    assert main(quick(folder, "query.views=2", "query.augment={flip: 0.5, zoom: 0.2}")) == 0
    return folder


def test_variants_stand_beside_the_pick_in_one_table(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    run = str(tmp_path / "run")
    names = []
    for options in ([], ["--start", "scratch", "--loss", "vanilla"], ["--loss", "csd=4", "--seed", "7"]):
        assert main(["train", run, "--pick", "cheapest", "--json", *options]) == 0
        names.append(json.loads(capsys.readouterr().out)["name"])
    usual = names[0]
    assert names == [usual, f"{usual}+scratch+vanilla1", f"{usual}+csd4+seed7"]
    assert main(["evaluate", run, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    told = [verdict["text"].split(":")[0].split(" = ")[1] for verdict in result["verdicts"]]
    assert told == [text for name in sorted(names) for text in (name, f"{name}, aligned", f"{name}, joined")]
    kinds = [system["name"].split()[0] for system in result["systems"]]
    assert (
        kinds.count("heterogeneous")
        == kinds.count("aligned")
        == kinds.count("joined")
        == kinds.count("homogeneous")
        == 3
    )
    assert kinds.count("untrained") == 1  # they are of one architecture
    assert result["seed"] == 0
    assert {"gallery", "views", "supernet", "search", f"train {usual}"} <= result["seconds"].keys()
    assert main(["export", run, "--pick", "cheapest"]) == 0  # the pick itself, not a variant


def test_views_are_embedded_once_and_made_again_if_they_are_of_other_settings(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("front.*", "records.jsonl", "supernet.pt"))
    folder = tmp_path / "run"
    views = folder / "gallery" / "resnet" / "views.npy"
    before = np.load(views)
    plain = np.load(views.with_name("pool.npy"))
    assert before.shape == (plain.shape[0], 2, plain.shape[1])
    assert np.allclose(np.linalg.norm(before.astype(np.float32), axis=2), 1, atol=2e-3)
    capsys.readouterr()
    again = [*quick(folder, "query.views=2", "query.augment={flip: 0.5, zoom: 0.2}"), "--resume"]
    assert main(again) == 0
    assert "views" not in capsys.readouterr().err
    views.with_name("views.json").write_text('"other"')
    (folder / "supernet.pt").unlink()
    assert main(again) == 0
    assert "embedding 2 views of" in capsys.readouterr().err
    assert np.array_equal(np.load(views), before)


@pytest.mark.parametrize("views", [0, 2])
def test_mixtures_are_learned_from_as_the_gallery_model_sees_them(views, tmp_path, capsys):
    """And by nothing else: calibration, the search and what is aligned see real pictures."""
    from cmpnas.data.augment import augment, draws
    from cmpnas.data.images import to_float
    from cmpnas.pipeline.stages import Stages

    how = (f"query.views={views}", "query.augment={flip: 0.5, zoom: 0.2}", "query.mixtures=0.5", "search.trials=6")
    assert main(quick(tmp_path / "run", *how)) == 0
    assert main(["train", str(tmp_path / "run"), "--pick", "cheapest"]) == 0
    told = capsys.readouterr().err
    stages = Stages.of_run(tmp_path / "run", None, print)
    pool, every, anchor = len(stages.splits.pool), stages.lessons.items, stages.lessons.anchor
    assert f"embedding {len(every) - pool:,} mixtures of two images" in told
    assert len(every) == len(anchor.embeddings) == len(anchor.labels) == round(1.5 * pool)
    assert (anchor.labels[pool:] == -1).all()
    some = np.array([0, pool, len(every) - 1])
    pictures = to_float(every.images.read(some))
    expected = stages.gallery.encoder(pictures).cpu().numpy()
    assert np.abs(anchor.embeddings[some].numpy() - expected).max() < 1e-4
    if views:
        shown = augment(pictures, stages.recipe.query.augment, draws(torch.from_numpy(some), 1))
        target = anchor.look(torch.from_numpy(some), 1)[0].numpy()
        assert np.abs(target - stages.gallery.encoder(shown).cpu().numpy()).max() < 2e-3
    assert np.load(tmp_path / "run" / "gallery" / "resnet" / "pool.npy").shape[0] == pool
    again = ["search", "--recipe", str(tmp_path / "run" / "recipe.yaml"), "--run", str(tmp_path / "run"), "--resume"]
    assert main(again) == 0
    assert "mixtures" not in capsys.readouterr().err  # once


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "nowhere"], "unknown start 'nowhere'; give supernet, scratch or pretrained"),
        (["--start", "pretrained"], "recipe 'quickstart' has no query.pretrained; give supernet or scratch"),
        (["--loss", "regresion"], "unknown loss 'regresion'. Did you mean 'regression'?"),
        (["--loss", "csd=-1"], "with a weight above 0, as in regression=10; got 'csd=-1'"),
        (["--loss", "csd=much"], "got 'csd=much'"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
    ],
)
def test_mistakes_are_one_line(run, capsys, options, message):
    assert main(["train", str(run), "--pick", "cheapest", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error:") == 1


def test_a_checkpoint_of_other_settings_is_not_continued(run, tmp_path, monkeypatch):
    """Of a pick killed in training whose plan was changed, the new plan is trained from its start."""
    import torch

    from cmpnas.train import loop

    weights = []
    for killed in (False, True):
        folder = tmp_path / f"run{killed}"
        shutil.copytree(run, folder)
        recipe = folder / "recipe.yaml"
        if killed:
            with monkeypatch.context() as patch:
                patch.setattr(loop._State, "finish", _interrupt)
                assert main(["train", str(folder), "--pick", "cheapest"]) == 130
            assert list(folder.glob("trained/*/checkpoint.*.pt"))
        content = yaml.safe_load(recipe.read_text())
        content["query"]["train"]["epochs"] = 2
        recipe.write_text(yaml.safe_dump(content))
        assert main(["train", str(folder), "--pick", "cheapest"]) == 0
        weights.append(torch.load(next(folder.glob("trained/*/network.pt")), weights_only=True)["network"])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def _interrupt(self) -> None:
    raise KeyboardInterrupt


def test_a_log_of_queries_that_nobody_labelled(tmp_path, capsys):
    """Nothing that query networks learn from is in the training split."""
    log = quick(
        tmp_path / "run", "data.pool={split: unlabelled, role: consumer}", "query.loss={regression: 1}",
        "search.trials=4", "search.population=4",
    )  # fmt: skip
    assert main(log) == 0
    log[2] = str(tmp_path / "needs labels")
    capsys.readouterr()
    assert main([*log, "--set", "query.loss={bct: 1}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "loss 'bct' needs labels and no picture of data.pool has one; without them:" in error
    option = (
        "galleries=[{kind: single, name: b, space: resnet_small, arch: smallest, transform: {train: {epochs: 1, "
        "batch_size: 8, lr: 0.1}}, train: {epochs: 1, batch_size: 8, lr: 0.1}}]"
    )
    assert main([*log, "--set", option]) == 2
    assert "loss 'shared_head' needs labels" in capsys.readouterr().err
    assert main([*log, "--set", "search.racing=0.999"]) == 2
    assert "set another share, or no racing" in capsys.readouterr().err
    assert not (tmp_path / "needs labels").exists()  # all of it is told before anything is trained
