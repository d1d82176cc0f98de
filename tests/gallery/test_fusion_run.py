"""Whole runs whose gallery is mixed of several models."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from cmpnas.cli.app import main
from cmpnas.data import load_splits
from cmpnas.data.readers import shop
from cmpnas.models import build_network
from cmpnas.models.mixer import TransformerMixer
from cmpnas.recipe import load_recipe
from cmpnas.space import load_space
from tests.conftest import QUICK, to_onnx

JOINT = "query.loss={influence: 1, regression: 5}"
WHITENED = ", mixer: {kind: whitening, shrinkage: 0.5}"
STAGED = ", training: two_stage, train: {epochs: 2, batch_size: 32, lr: 0.01}"
TOTAL = 24 * 6 + 8 * 8 + 2 * 8 * 8  # pictures of the shrunk shop


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder that nobody trained, of 24 px, saved local features of every picture, and noise."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    space = load_space("resnet_small", size=24, embedding_dim=20)
    to_onnx(build_network(space, space.extremes()[0]), 24, folder / "big.onnx")
    pixels = shop.read(load_recipe("quickstart", list(QUICK)).data).images.read(np.arange(TOTAL))
    np.save(folder / "saved.npy", F.adaptive_avg_pool2d(pixels.float(), (5, 1))[..., 0].numpy().astype(np.float16))
    np.save(folder / "noise.npy", np.random.default_rng(0).normal(size=(TOTAL, 40)).astype(np.float16))
    return folder


def search(run, folder, more="", *overrides):
    single = "{kind: single, name: own, space: resnet_small, arch: smallest, embedding_dim: 12, "
    single += "train: {epochs: 1, batch_size: 32, lr: 0.004}}"
    brought = "{kind: onnx, name: big, file: big.onnx}"
    saved = "{kind: precomputed, name: saved, file: saved.npy, mflops: 7}"
    gallery = f"gallery={{kind: fusion, name: mixed, embedding_dim: 16, bank: {folder / 'bank'}, "
    gallery += f"sources: [{single}, {brought}, {saved}], local: {{own: {{tokens: 4, by: grid}}}}{more}}}"
    shrunk = [override for override in QUICK if not override.startswith("gallery.")]
    parts = [part for override in (*shrunk, "query.views=0", gallery, *overrides) for part in ("--set", override)]
    return ["search", "--run", str(run), "--data", str(folder), "--budget-mflops", "2", *parts]


def cost(path, capsys):
    capsys.readouterr()
    assert main(["cost", *path, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("more", "loss"), [("", JOINT), (STAGED, "query.loss={csd: 1, bct: 1}")], ids=["joint", "two"])
def test_search_resume_train_evaluate(more, loss, folder, tmp_path, capsys):
    run = tmp_path / "run"
    command = search(run, folder, more, loss)
    bank = folder / "bank" / "big.npy"
    before = bank.stat().st_mtime_ns if bank.exists() else None
    assert main([*command, "--json"]) == 0
    front = json.loads(capsys.readouterr().out)
    if before is not None:  # another run has embedded it
        assert bank.stat().st_mtime_ns == before
    shapes = [(1, 12), (4, 256), (1, 20), (3, 5)]
    mixer = TransformerMixer(shapes, 16, layers=2, heads=4, expansion=2)
    own = load_space("resnet_small", size=32, embedding_dim=12)
    mflops = own.cost(own.extremes()[0]).mflops + cost([str(folder / "big.onnx")], capsys)["mflops"] + 7
    assert front["paragon"]["mflops"] == pytest.approx(mflops + mixer.macs / 1e6, abs=1e-9)
    assert front["pairs"][0]["gallery"]["kind"] == "fusion"
    assert not list(run.rglob("*checkpoint*"))

    records, pool = (run / "records.jsonl").read_bytes(), np.load(run / "gallery" / "mixed" / "pool.npy")
    for file in ("supernet.pt", "front.json", "records.jsonl"):
        (run / file).unlink()
    assert main([*command, "--resume"]) == 0
    assert (run / "records.jsonl").read_bytes() == records
    assert np.array_equal(np.load(run / "gallery" / "mixed" / "pool.npy"), pool)

    assert main(["train", str(run), "--data", str(folder)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(folder), "--json"]) == 0
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert systems[0]["mflops"] == front["paragon"]["mflops"]
    assert 0 < systems[1]["scores"]["hit@1"] <= 1

    if more:
        return
    out = tmp_path / "bundle"
    assert main(["export", str(run), "--data", str(folder), "--out", str(out), "--gallery", "--option", "mixed"]) == 0
    assert "no gallery.onnx: gallery 'mixed' is mixed of local or saved features" in capsys.readouterr().err
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["proof"]["gallery.parts.onnx"]["max_difference_from_stored"] < 1e-5
    assert [model["name"] for model in manifest["gallery"]["models"]] == ["own", "big", "saved"]
    features = {name: np.load(folder / "bank" / f"{name}.npy") for name in ("own", "own.local", "big", "saved")}
    session = onnxruntime.InferenceSession(str(out / "gallery.parts.onnx"))
    assert [(taken.name, *taken.shape[1:]) for taken in session.get_inputs()] == [
        ("own", 12), ("own.local", 4, 256), ("big", 20), ("saved", 3, 5),
    ]  # fmt: skip
    (got,) = session.run(None, {name: part.astype(np.float32) for name, part in features.items()})
    for vector in np.load(run / "gallery" / "mixed" / "gallery.npy")[:5]:
        assert np.abs(got - vector).max(1).min() < 1e-5


def test_a_source_of_noise_changes_nothing(folder, tmp_path, capsys):
    """It is left out, with what was heard of it, and its cost with it."""
    fronts = []
    for name, more in (("without", ""), ("with", ", {kind: precomputed, name: noise, file: noise.npy, mflops: 3}")):
        sources = "{kind: precomputed, name: saved, file: saved.npy, mflops: 7}" + more
        gallery = f"gallery={{kind: fusion, name: mixed, embedding_dim: 16, sources: [{sources}], "
        gallery += f"bank: {tmp_path / 'bank'}{STAGED}}}"
        command = search(tmp_path / name, folder, "", "query.loss={bct: 1}", gallery)
        assert main([*command, "--json"]) == 0
        said = capsys.readouterr()
        fronts.append(json.loads(said.out))
    assert "left out, as it tells no classes apart: noise: hit@1" in said.err
    heard = json.loads((tmp_path / "with" / "gallery" / "mixed" / "heard.json").read_text())
    assert [(source["source"], source["silent"]) for source in heard] == [("saved", False), ("noise", True)]
    assert fronts[0]["paragon"] == fronts[1]["paragon"]
    assert [pair["scores"] for pair in fronts[0]["pairs"]] == [pair["scores"] for pair in fronts[1]["pairs"]]


def test_models_that_can_be_run_teach_views_and_mixtures(folder, tmp_path, capsys):
    run = tmp_path / "run"
    sources = (
        "{kind: onnx, name: big, file: big.onnx}, {kind: onnx, name: again, file: big.onnx, mean: [0.4, 0.4, 0.4]}"
    )
    gallery = f"gallery={{kind: fusion, name: mixed, embedding_dim: 16, sources: [{sources}]{WHITENED}}}"
    seen = "galleries=[{kind: views, name: seen, views: 1, augment: {flip: 1}}]"
    command = search(
        run, folder, "", "query.loss={csd: 1, regression: 1}", gallery, "query.views=2", "query.mixtures=1", seen
    )
    assert main([*command, "--json"]) == 0
    said = capsys.readouterr()
    assert "gallery: a whitening of big, again on " in said.err
    front = json.loads(said.out)
    big = cost([str(folder / "big.onnx")], capsys)["mflops"]
    assert front["paragon"]["mflops"] == pytest.approx(2 * big + 2 * 20 * 16 / 1e6, abs=1e-9)
    kept = run / "gallery" / "mixed"
    pool, views = np.load(kept / "pool.npy"), np.load(kept / "views.npy")
    assert views.shape == (len(pool) + len(np.load(kept / "mixtures.npy")), 2, 16)
    near = (views[: len(pool)].astype(np.float32) * pool[:, None]).sum(2)
    assert near.mean() > np.abs(pool @ pool.T).mean()  # a view of a picture is nearer to it than another picture
    model, key = (kept / "model.pt").read_bytes(), (kept / "pool.npy").stat().st_mtime_ns
    (run / "front.json").unlink()
    assert main([*command, "--resume"]) == 0
    assert (kept / "model.pt").read_bytes() == model
    assert (kept / "pool.npy").stat().st_mtime_ns == key
    assert main(["train", str(run), "--data", str(folder)]) == 0
    assert main(["evaluate", str(run), "--data", str(folder)]) == 0
    out = tmp_path / "out"
    assert main(["export", str(run), "--data", str(folder), "--out", str(out), "--gallery", "--option", "mixed"]) == 0
    proof = json.loads((out / "manifest.json").read_text())["proof"]
    assert proof["gallery.onnx"]["cosine_with_index"]["mean"] > 0.999
    assert proof["gallery.parts.onnx"]["max_difference_from_stored"] < 1e-5
    session = onnxruntime.InferenceSession(str(out / "gallery.onnx"))
    (taken,) = session.get_inputs()
    assert taken.name == "images"

    assert main(["export", str(run), "--data", str(folder), "--out", str(out), "--gallery", "--option", "seen"]) == 0
    assert main(["verify", str(out), "--index", str(run / "gallery/seen/index.faiss"), "--data", str(folder)]) == 0
    pictures = load_splits(load_recipe(str(run / "recipe.yaml")).data).search.gallery.images.read(np.arange(9))
    pictures = (pictures.numpy() / 127.5 - 1).astype(np.float32)
    once = [session.run(["embedding"], {"images": side})[0] for side in (pictures, pictures[..., ::-1].copy())]
    both = sum(once) / np.linalg.norm(sum(once), axis=1, keepdims=True)
    assert np.load(run / "gallery/seen/gallery.npy")[:9] == pytest.approx(both, abs=1e-4)
    exported = onnxruntime.InferenceSession(str(out / "gallery.onnx"))
    assert exported.run(["embedding"], {"images": pictures})[0] == pytest.approx(both, abs=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([JOINT, "query.views=2"], "query.views is 2, but gallery 'saved' is embeddings without a model; use 0"),
        ([JOINT, "query.mixtures=1"], "query.mixtures is 1, but gallery 'saved' is embeddings without a model"),
        (
            [JOINT, "galleries=[{kind: views, name: v, views: 1, augment: {flip: 1}}]"],
            "gallery 'v' is of views of pictures, which 'saved', of saved embeddings, never sees; leave it out",
        ),
        (["query.loss={csd: 1}"], "query.loss.csd needs a frozen gallery, and this one learns jointly"),
        ([JOINT, "gallery.bank=MODELS"], "has no manifest.json, so it is no bank"),
        ([JOINT, "data.seed=2"], "is a bank of another list of images"),
        ([JOINT, "data.train_shots=[2, 5]"], "source 'saved': saved.npy holds float16 (336, 3, 5)"),
    ],
)
def test_mistakes_end_in_one_line(overrides, message, folder, tmp_path, capsys):
    """After the runs above, which have filled the bank."""
    assert (folder / "bank" / "manifest.json").exists()
    assert main(search(tmp_path / "run", folder, "", *(text.replace("MODELS", str(folder)) for text in overrides))) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last
