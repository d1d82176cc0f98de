"""Bundles of runs with several gallery options: the gallery side from pictures and from what models said."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

from cmpnas.cli.app import main
from cmpnas.models import build_network
from tests.conftest import DIVIDED, to_onnx

TRANSFORM = {"kind": "wide", "train": {"epochs": 2, "batch_size": 8, "lr": 0.001}}


@pytest.fixture(scope="module")
def data(small, tmp_path_factory):
    """Coloured noise of twelve classes, two encoders that nobody trained, and saved vectors of a third."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 8)
    tint = rng.integers(40, 215, (12, 3))[labels]
    images = np.clip(tint[:, None, None] + rng.normal(0, 25, (96, 16, 16, 3)), 0, 255).astype(np.uint8)
    np.savez(folder / "set.npz", images=images, labels=labels, part=labels // 4, side=np.tile([0, 0, 1, 1], 24))
    np.savez(folder / "saved.npz", embeddings=tint / 64 + rng.normal(size=(96, 3)))
    for seed, name in enumerate(("anchor", "b")):
        torch.manual_seed(seed)
        to_onnx(build_network(small, small.extremes()[seed]).eval(), 32, folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    look = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    content = {
        "name": "options",
        "data": DIVIDED,
        "gallery": {"kind": "onnx", "name": "anchor", "file": "anchor.onnx"},
        "galleries": [
            {"kind": "onnx", "name": "b", "file": "b.onnx", "transform": TRANSFORM, **look},
            {"kind": "precomputed", "name": "saved", "file": "saved.npz", "mflops": 20, "transform": TRANSFORM},
            {"kind": "views", "name": "seen", "views": 3, "augment": {"flip": 0.5, "zoom": 0.1}},
            {"kind": "ensemble", "name": "sure", "members": {"b": 0.4, "anchor": 1}, "reject": {"coverage": 0.5}},
            {"kind": "ensemble", "name": "all", "members": ["anchor", "b", "saved"]},
            {"kind": "ensemble", "name": "wide", "members": {"seen": 1, "b": 0.4}},
        ],
        "query": {
            "space": "mobile_small", "loss": {"regression": 1},
            "supernet": {"epochs": 1, "batch_size": 8, "lr": 0.005},
            "train": {"epochs": 1, "batch_size": 8, "lr": 0.001},
        },
        "search": {"trials": 4, "population": 4, "calibration_images": 8},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    about = [str(folder / "run"), "--data", str(data)]
    assert main(["search", "--recipe", str(folder / "recipe.yaml"), "--run", *about]) == 0
    assert main(["train", *about, "--pick", "cheapest"]) == 0
    return folder / "run"


def export(run, data, out, *more):
    return main(["export", str(run), "--data", str(data), "--pick", "cheapest", "--out", str(out), *more])


def own_index(run, name):
    return run / "gallery" / name / ("mapped" if name in ("b", "saved") else "") / "index.faiss"


def files(out):
    return {path.name for path in out.iterdir()} & {"gallery.onnx", "gallery.parts.onnx"}


def test_an_ensemble_in_one_graph_from_pictures(run, data, tmp_path, capsys):
    out = tmp_path / "bundle"
    assert export(run, data, out, "--gallery", "--option", "sure", "--preprocess", "nhwc") == 0
    manifest, folder = json.loads((out / "manifest.json").read_text()), run / "gallery"
    assert files(out) == {"gallery.onnx", "gallery.parts.onnx"}
    stored, apart = np.load(folder / "sure" / "gallery.npy"), np.load(folder / "sure" / "distance.npy")

    with np.load(data / "set.npz") as found:
        pictures = found["images"][(found["part"] == 1) & (found["side"] == 1)]
    session = onnxruntime.InferenceSession(str(out / "gallery.onnx"))
    embedding, distance = session.run(["embedding", "distance"], {"images": pictures})
    assert np.abs(embedding - stored).max() < 1e-4
    assert np.abs(distance - apart).max() < 1e-4

    session = onnxruntime.InferenceSession(str(out / "gallery.parts.onnx"))
    assert [taken.name for taken in session.get_inputs()] == ["b", "anchor"]
    said = {name: 3 * np.load(folder / name / "gallery.npy") for name in ("b", "anchor")}
    embedding, distance = session.run(["embedding", "distance"], said)
    assert np.abs(embedding - stored).max() < 1e-5
    assert np.abs(distance - apart).max() < 1e-5

    limit = manifest["gallery"]["reject"]["limit"]
    assert manifest["gallery"]["reject"]["rejected"] == (apart > limit).sum() == 8
    assert manifest["gallery"]["items"] == 8
    models = {model["name"]: model for model in manifest["gallery"]["models"]}
    assert list(models) == ["b", "anchor"]
    assert models["anchor"]["transform"] is None
    readme = (out / "README.md").read_text()
    for said in (models["b"]["model"], models["b"]["transform"], models["anchor"]["model"], "`b` float32 (N, 16)"):
        assert said in readme
    assert f"a `distance` above {limit:.9g}" in readme

    capsys.readouterr()
    about = ["--data", str(data), "--json"]
    assert main(["verify", str(out), "--index", str(own_index(run, "sure")), *about]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["scores"]["query.onnx"] == manifest["scores"]["heterogeneous"]
    assert verified["scores"]["gallery.onnx"]["cosine_with_index"]["least"] > 0.9999
    assert "gallery.parts.onnx" in verified["files"]
    assert main(["verify", str(out), "--index", str(own_index(run, "anchor")), *about]) == 2
    assert manifest["gallery"]["index"] in capsys.readouterr().err


@pytest.mark.parametrize("option", ["seen", "wide"])
def test_views_by_a_finished_model_in_one_graph(run, data, tmp_path, option):
    out = tmp_path / "bundle"
    assert export(run, data, out, "--gallery", "--option", option, "--preprocess", "nhwc") == 0
    stored = np.load(run / "gallery" / option / "gallery.npy")
    with np.load(data / "set.npz") as found:
        pictures = found["images"][(found["part"] == 1) & (found["side"] == 1)]
    session = onnxruntime.InferenceSession(str(out / "gallery.onnx"))
    for some in (pictures, pictures[:1]):
        (embedding,) = session.run(["embedding"], {"images": some})
        assert np.abs(embedding - stored[: len(some)]).max() < 1e-4
    graph = onnx.load(str(out / "gallery.onnx")).graph
    convolutions = sum(node.op_type == "Conv" for node in graph.node)
    alone = {"seen": ["anchor"], "wide": ["anchor", "b"]}[option]  # each model is held once, whatever it looks at
    assert convolutions == sum(
        node.op_type == "Conv" for name in alone for node in onnx.load(str(data / f"{name}.onnx")).graph.node
    )


def test_a_pair_is_exported_with_its_own_gallery_from_saved_vectors(run, data, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    front = json.loads((run / "front.json").read_text())
    for pair in front["pairs"]:
        pair["gallery"] = next(gallery for gallery in front["galleries"] if gallery["name"] == "all")
    (tmp_path / "run" / "front.json").write_text(json.dumps(front))
    out = tmp_path / "bundle"
    assert export(tmp_path / "run", data, out, "--gallery") == 0
    assert "no gallery.onnx: gallery 'saved' has no model to export." in capsys.readouterr().err
    assert files(out) == {"gallery.parts.onnx"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["gallery"]["name"] == "all"
    told = manifest["gallery_files"]["gallery.parts.onnx"]
    assert {taken["name"]: taken["shape"] for taken in told["inputs"]} == {
        "anchor": ["batch", 16], "b": ["batch", 16], "saved": ["batch", 3],
    }  # fmt: skip
    assert [given["name"] for given in told["outputs"]] == ["embedding"]
    proof = manifest["proof"]["gallery.parts.onnx"]
    assert proof["max_difference_from_stored"] < 1e-5
    assert proof["batches"][:3] == [1, 2, 7]
    assert main(["verify", str(out), "--index", str(own_index(run, "all")), "--data", str(data)]) == 0


def test_an_index_is_aligned_by_a_file_of_the_bundle(run, data, tmp_path, capsys):
    out, about = tmp_path / "bundle", ["--data", str(data), "--json"]
    assert main(["evaluate", str(run), *about, "--split", "search"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    systems = {system["name"]: system["scores"]["map@r"] for system in evaluated["systems"]}
    assert export(run, data, out, "--aligned", "--gallery", "--option", "sure") == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["scores"]["index"] == "aligned"
    assert manifest["scores"]["heterogeneous"]["score"] == pytest.approx(
        systems["aligned       M(q,sure)  q1"], abs=1e-9
    )
    verdict = next(v for v in evaluated["verdicts"] if v["gallery"] == "sure" and v["kind"] == "aligned")
    over = systems["aligned       M(q,sure)  q1"] - systems["heterogeneous M(q,sure)  q1"]
    assert verdict["over_plain"] == pytest.approx(over, abs=1e-9)

    # What the map is, written out: least squares through the origin on the pool, drawn to a multiple of the identity.
    with np.load(data / "set.npz") as found:
        pool = found["images"][found["part"] == 0]
    query = onnxruntime.InferenceSession(str(out / "query.onnx"))
    pictures = (pool.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)
    said, known = query.run(None, {"images": pictures})[0], np.load(run / "gallery" / "anchor" / "pool.npy")
    gram, product = known.T.astype(np.float64) @ known, known.T.astype(np.float64) @ said
    ridge = 30 * np.trace(gram) / len(pool) * np.eye(16)
    weight = np.linalg.solve(gram + ridge, product + np.trace(product) / np.trace(gram) * ridge)
    stored = np.load(run / "gallery" / "sure" / "gallery.npy")
    expected = stored @ weight / np.linalg.norm(stored @ weight, axis=1, keepdims=True)
    align = onnxruntime.InferenceSession(str(out / "index.align.onnx"))
    for some in (stored, stored[:1]):
        assert align.run(None, {"vectors": some})[0] == pytest.approx(expected[: len(some)], abs=1e-4)

    assert "its vectors taken through `index.align.onnx` once" in (out / "README.md").read_text()
    capsys.readouterr()
    assert main(["verify", str(out), "--index", str(own_index(run, "sure")), *about]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["scores"]["query.onnx"] == manifest["scores"]["heterogeneous"]
    assert verified["scores"]["gallery.onnx"]["cosine_with_index"]["least"] > 0.9999
    assert "index.align.onnx" in verified["files"]
    assert export(run, data, out, "--option", "sure") == 0
    assert not (out / "index.align.onnx").exists()
    assert json.loads((out / "manifest.json").read_text())["scores"]["index"] == "heterogeneous"


@pytest.mark.parametrize("option", ["wide", "sure"])
def test_an_index_is_joined_by_the_network_itself(run, data, tmp_path, capsys, option):
    """As its readme says, in numpy and onnxruntime alone: the score of the manifest, of `evaluate` and of `verify`."""
    out, about = tmp_path / "bundle", ["--data", str(data), "--json"]
    assert main(["evaluate", str(run), *about, "--split", "search"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert export(run, data, out, "--joined", "--option", option) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["scores"]["index"] == "joined"

    with np.load(data / "set.npz") as found:
        sides = [(found["part"] == 1) & (found["side"] == side) for side in (0, 1)]
        pictures = [(found["images"][side].transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32) for side in sides]
        labels = [found["labels"][side] for side in sides]
    session = onnxruntime.InferenceSession(str(out / "query.onnx"))
    query, own = (session.run(None, {"images": side})[0] for side in pictures)
    known = {
        "np": np,
        "onnxruntime": onnxruntime,
        "own": own,
        "gallery": np.load(run / "gallery" / option / "gallery.npy"),
    }
    steps = [line[2:] for line in (out / "README.md").read_text().splitlines() if line.startswith("# ")]
    steps = [step for step in steps if step.startswith(("align =", "gallery =", "gallery /="))]
    assert len(steps) == 4
    exec("\n".join(steps).replace('"index.align.onnx"', f'"{out}/index.align.onnx"'), known)
    gallery = known["gallery"]
    assert np.linalg.norm(gallery, axis=1) == pytest.approx(1, abs=1e-5)

    apart = np.load(run / "gallery" / option / "distance.npy")
    stays = apart <= np.sort(apart)[len(apart) // 2 - 1] if option == "sure" else apart < 2
    found = []
    for vector, label in zip(query, labels[0], strict=True):
        right, asked = labels[1] == label, np.argsort(-(gallery[stays] @ vector), kind="stable")
        first = right[stays][asked][: right.sum()]
        found.append((first * np.cumsum(first) / np.arange(1, len(first) + 1)).sum() / right.sum())
    systems = {system["name"]: system["scores"]["map@r"] for system in evaluated["systems"]}
    joined, aligned = systems[f"joined        M(q,{option}+q)  q1"], systems[f"aligned       M(q,{option})  q1"]
    assert joined == pytest.approx(np.mean(found), abs=1e-6)
    assert joined not in (aligned, systems["homogeneous   M(q,q)  q1"])
    assert manifest["scores"]["heterogeneous"]["score"] == pytest.approx(joined, abs=1e-6)
    verdict = next(v for v in evaluated["verdicts"] if v["gallery"] == option and v["kind"] == "joined")
    assert verdict["over_plain"] == pytest.approx(joined - systems[f"heterogeneous M(q,{option})  q1"], abs=1e-9)

    capsys.readouterr()
    assert main(["verify", str(out), "--index", str(own_index(run, option)), *about]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["query.onnx"] == manifest["scores"]["heterogeneous"]
    asked = manifest["query"]["mflops"]
    assert manifest["costs"]["gallery"]["mflops"] == pytest.approx(manifest["gallery"]["mflops"] + asked)
    assert "joined by this encoder's own" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--option", "surer"], "unknown gallery option 'surer'. Did you mean 'sure'?"),
        (["--option", "x"], "There are: all, anchor, b, saved, seen, sure, wide"),
    ],
)
def test_mistakes(run, data, tmp_path, capsys, more, message):
    assert export(run, data, tmp_path / "bundle", *more) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "bundle").exists()


def test_another_transform_than_the_index_was_made_with_is_noticed(run, data, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "gallery" / "saved" / "mapped" / "transform.pt"
    state = torch.load(path, weights_only=True)
    state["transform"]["enter.weight"] += 0.1
    torch.save(state, path)
    assert export(tmp_path / "run", data, tmp_path / "out", "--gallery", "--option", "saved") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "gallery.parts.onnx differs from the vectors that the run stored by" in last
    assert "Nothing was exported." in last
