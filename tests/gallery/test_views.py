"""Means of several views against a naive loop; a run that indexes them, and its export."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from cmpnas.cli.app import main
from cmpnas.data import Items
from cmpnas.data.augment import Augment, augment, evenly
from cmpnas.data.images import ArrayImages, to_float
from cmpnas.gallery import views
from cmpnas.gallery.option_settings import ViewsSettings
from cmpnas.gallery.views import ViewsGallery
from cmpnas.pipeline.options import find_option
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import list_finished, load_finished
from cmpnas.search.evaluator import score_pair
from cmpnas.train.embed import embed
from tests.conftest import QUICK

HOW = Augment(flip=0.5, zoom=0.2, shift=0.1)


@pytest.fixture(scope="module")
def items():
    pixels = torch.randint(0, 256, (23, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Items(ArrayImages(pixels), np.arange(23), None, np.arange(23))


@pytest.fixture(scope="module")
def option():
    weights = torch.randn(3 * 12 * 12, 5, generator=torch.Generator().manual_seed(1))
    model = SimpleNamespace(
        encoder=lambda images: F.normalize(images.flatten(1) @ weights), mflops=2.0, embedding_dim=5
    )
    return ViewsGallery(ViewsSettings(kind="views", name="v", views=4, augment=HOW), model)


def test_a_vector_is_the_mean_over_views_whatever_is_beside_its_image(option, items, monkeypatch):
    monkeypatch.setattr(views, "_BATCH", 35)  # seven images
    got = option.embed(items)
    for row in range(len(items)):
        image = to_float(items.images.read(np.array([row])))
        total = option.model.encoder(image)[0]
        for view in range(4):
            total = total + option.model.encoder(augment(image, HOW, evenly(4)[view : view + 1]))[0]
        assert got[row] == pytest.approx((total / total.norm()).numpy(), abs=1e-5)
    assert got.dtype == np.float32
    assert option.mflops == 5 * 2
    assert option.embedding_dim == 5
    assert (
        np.abs(got - F.normalize(option.model.encoder(to_float(items.images.read(np.arange(23))))).numpy()).max() > 0.1
    )


def test_a_few_views_are_spread_over_what_may_change():
    """Of eight views each half of each number's range has four: about half are mirrored."""
    numbers = evenly(8)
    assert ((numbers < 0.5).sum(0) == 4).all()
    assert torch.equal(numbers, evenly(8))
    assert torch.equal(numbers[:5], evenly(5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"augment": {}}, "all views are the image itself"), ({"views": 0}, "greater than or equal to 1")],
)
def test_views_that_are_none(changes, message):
    with pytest.raises(ValueError, match=message):
        ViewsSettings.model_validate({"kind": "views", "name": "v", "views": 4, "augment": {"flip": 1}} | changes)


def test_a_run_indexes_them_and_exports_them_in_one_graph(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "bundle"
    of = "{kind: views, name: V, views: 3, augment: {flip: 0.5, shift: 0.1, erase: 0.5}}"
    more = f"galleries=[{of.replace('V', 'v')}, {{kind: ensemble, name: both, members: {{resnet: 0.5, v: 1}}}}]"

    def search(galleries):
        sets = [part for override in (*QUICK, "search.trials=4", galleries) for part in ("--set", override)]
        return main(["search", "--run", str(run), "--resume", *sets])

    assert search(more) == 0
    before = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert list(before[0]["galleries"]) == ["resnet", "v", "both"]
    stages = Stages.of_run(run, None, print)
    stored, anchor = find_option(stages, "v").indexed.gallery, find_option(stages, "resnet").indexed.gallery
    assert not np.allclose(stored, anchor, atol=1e-4)
    assert np.einsum("nd,nd->n", stored, anchor).mean() > 0.8  # they are of one space
    known = {option["name"]: option for option in json.loads((run / "front.json").read_text())["galleries"]}
    assert known["v"]["mflops"] == pytest.approx(4 * known["resnet"]["mflops"])
    assert known["v"]["kept_bytes"] == 0

    assert main(["train", str(run), "--pick", "cheapest"]) == 0
    about = ["--pick", "cheapest", "--option", "v", "--out", str(out), "--gallery", "--preprocess", "nchw"]
    assert main(["export", str(run), *about]) == 0
    pictures = stages.splits.search.gallery.images.read(np.arange(7)).numpy()
    (vectors,) = onnxruntime.InferenceSession(str(out / "gallery.onnx")).run(["embedding"], {"images": pictures})
    assert np.einsum("nd,nd->n", vectors, stored[:7]).min() > 0.999  # the run's are of bf16 where it has it

    (vectors,) = onnxruntime.InferenceSession(str(out / "gallery.onnx")).run(["embedding"], {"images": pictures[:1]})
    assert vectors.shape == (1, stored.shape[1])
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["gallery"]["views"] == 3
    assert manifest["gallery"]["augment"]["erase"] == 0.5

    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    score = {system["name"]: system["scores"]["map@r"] for system in result["systems"]}
    of_views = next(verdict for verdict in result["verdicts"] if verdict["gallery"] == "v")
    pair = score["heterogeneous M(q,v)  q1"]
    assert of_views["over_large"] == pytest.approx(pair - score["large model   M(g,v)"], abs=1e-9)
    assert of_views["over_views"] == pytest.approx(pair - score["homogeneous   M(q,v of q)  q1"], abs=1e-9)
    task, network = stages.splits.test, load_finished(stages, list_finished(stages)[0])
    images = to_float(task.gallery.images.read(np.arange(len(task.gallery))))
    how = find_option(stages, "v").settings.augment
    seen = [images, *(augment(images, how, row.expand(len(images), -1)) for row in evenly(3))]
    with torch.no_grad():
        own = sum(F.normalize(network(view)) for view in seen).numpy()  # each view weighs alike
    expected = score_pair(embed(network, task.query), own, task, ["map@r"])["map@r"]
    assert score["homogeneous   M(q,v of q)  q1"] == pytest.approx(expected, abs=1e-9)

    assert search(more.replace("views: 3", "views: 2")) == 2
    assert "give the gallery option another name" in capsys.readouterr().err
    assert main(["evaluate", str(run)]) == 0  # the recipe that was refused has left no trace
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("views: 3", "views: 2"))
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 2
    assert "give the gallery option another name" in capsys.readouterr().err
