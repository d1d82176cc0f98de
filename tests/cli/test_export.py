"""A bundle, from a run to a folder that runs alone, checked again, and the mistakes around it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.data.images import to_float
from cmpnas.retrieval import GalleryIndex
from cmpnas.run import RunFolder
from tests.conftest import QUICK

#: Put before a script: importing any of these names fails.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {names}:
            raise ImportError(name + ' is blocked')
sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    overrides = [part for override in QUICK for part in ("--set", override)]
    assert main(["search", "--run", str(folder), "--budget-mflops", "2", "--trials", "4", *overrides]) == 0
    assert main(["train", str(folder), "--pick", "cheapest"]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A bundle of uint8 pictures and int8, and what the command said."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    command = ["export", str(run), "--pick", "cheapest", "--out", str(folder)]
    assert main([*command, "--int8", "--tolerance", "100", "--preprocess", "nhwc:40x48", "--gallery"]) == 0
    return folder


def index_of(run):
    return run / "gallery" / "resnet" / "index.faiss"


def alone(folder, script, blocked):
    """Run a script in a folder, with nothing of ours on the path and ``blocked`` packages out of reach."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(names=blocked) + script],
        cwd=folder, env={"PATH": "", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_bundle_is_complete_and_says_what_it_is(exported, run):
    manifest = json.loads((exported / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in exported.iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == {
        "query.onnx", "query.int8.onnx", "query.w8.onnx", "query.pt2", "model.py", "weights.pt", "gallery.onnx",
        "arch.json", "README.md",
    }  # fmt: skip
    assert manifest["input"]["shape"] == ["batch", 40, 48, 3]
    assert manifest["proof"]["query.onnx"]["same_top10"]
    assert manifest["proof"]["query.int8.onnx"]["cosine_with_float32"]["mean"] > 0.9
    assert manifest["proof"]["query.w8.onnx"]["cosine_with_float32"]["mean"] > 0.99
    assert manifest["proof"]["gallery.onnx"]["max_abs_difference"] < 1e-4
    assert manifest["proof"]["gallery.onnx"]["cosine_with_index"]["mean"] > 0.9
    assert manifest["int8"]["calibration"]["split"] == "train"
    for name in ("query.int8.onnx", "query.w8.onnx"):
        assert manifest["files"][name]["bytes"] < manifest["files"]["query.onnx"]["bytes"] / 2
    low, high = manifest["scores"]["heterogeneous"]["interval"]
    assert low <= manifest["scores"]["heterogeneous"]["score"] <= high
    assert json.loads((run / "manifest.json").read_text())["test_opened"] == []
    assert "arch" in manifest["query"]
    text = "".join((exported / name).read_text() for name in ("README.md", "manifest.json", "model.py"))
    assert str(run) not in text


def test_the_test_verdict_is_that_of_these_weights(run, tmp_path, capsys):
    """Another network of the same architecture, evaluated before, lends it none."""
    folder = shutil.copytree(run, tmp_path / "run")
    pick, aside = ["--pick", "cheapest"], tmp_path / "aside"
    shutil.move(next(path.parent for path in folder.glob("trained/*/network.pt")), aside)
    assert main(["train", str(folder), *pick, "--start", "scratch", "--loss", "vanilla"]) == 0
    assert main(["evaluate", str(folder)]) == 0
    shutil.move(aside, folder / "trained" / json.loads((run / "front.json").read_text())["pairs"][0]["query"]["id"])
    found = []
    for bundle in ("one", "two"):
        assert main(["export", str(folder), *pick, "--out", str(tmp_path / bundle)]) == 0
        found.append(json.loads((tmp_path / bundle / "manifest.json").read_text())["scores"]["test"])
        assert main(["evaluate", str(folder)]) == 0
    assert found[0] is None
    verdicts = json.loads((folder / "evaluation.test.json").read_text())["verdicts"]
    assert found[1] in verdicts
    assert "scratch" not in found[1]["text"]


def test_what_a_killed_export_left_is_not_shipped(exported, run, tmp_path, capsys):
    out = shutil.copytree(exported, tmp_path / "out")
    before = {file.name for file in out.iterdir()}
    (out / ".partial.abc").mkdir()
    (out / ".partial.abc" / "query.onnx").write_bytes(b"half")
    with RunFolder.open(run).locked():
        assert main(["export", str(run), "--pick", "cheapest", "--out", str(out)]) == 2
        assert "another process is working on" in capsys.readouterr().err
    assert main(["export", str(run), "--pick", "cheapest", "--out", str(out)]) == 0
    assert {file.name for file in out.iterdir()} <= before


def test_onnx_files_run_with_onnxruntime_and_numpy_alone(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "alone")
    script = (
        "import numpy as np, onnxruntime\n"
        "x = np.random.default_rng(0).integers(0, 256, (7, 40, 48, 3), np.uint8)\n"
        "for name in ('query.onnx', 'query.int8.onnx', 'query.w8.onnx'):\n"
        "    run = onnxruntime.InferenceSession(name).run\n"
        "    whole = run(None, {'images': x})[0]\n"
        "    assert whole.shape == (7, 128) and np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)\n"
        "    for n in (1, 2): assert np.allclose(run(None, {'images': x[:n]})[0], whole[:n], atol=1e-5)\n"
    )
    alone(tmp_path / "alone", script, {"cmpnas", "torch", "onnx", "faiss"})


def test_the_ten_lines_of_the_readme_run(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "alone")
    script = (exported / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(script.strip().splitlines()) <= 10
    alone(tmp_path / "alone", script + "assert query.shape == (2, 128)", {"cmpnas", "torch", "onnx", "faiss"})


def test_source_runs_with_torch_alone(exported, tmp_path):
    for name in ("model.py", "weights.pt"):
        shutil.copy(exported / name, tmp_path)
    script = (
        "import torch, model\n"
        "vectors = model.load()(torch.zeros(3, 3, 32, 32))\n"
        "assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5) and vectors.shape == (3, 128)\n"
    )
    alone(tmp_path, script, {"cmpnas", "onnxruntime", "onnx", "faiss", "optuna", "pydantic"})


def test_verify_finds_what_was_found(exported, run, capsys):
    manifest = json.loads((exported / "manifest.json").read_text())
    assert main(["verify", str(exported), "--index", str(index_of(run)), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["files"]) == {"query.onnx", "query.int8.onnx", "query.w8.onnx", "model.py"}
    assert result["scores"]["query.onnx"] == manifest["scores"]["heterogeneous"]
    assert (
        result["scores"]["gallery.onnx"]["cosine_with_index"] == manifest["proof"]["gallery.onnx"]["cosine_with_index"]
    )
    assert result["scores"]["query.int8.onnx"]["against_float32"] == manifest["int8"]["against_float32"]
    assert result["scores"]["query.w8.onnx"]["against_float32"] == manifest["weights8"]["against_float32"]


def test_verify_without_an_index_needs_no_data(exported, capsys):
    assert main(["verify", str(exported)]) == 0
    assert "scores were not checked; add --index" in capsys.readouterr().out


def failed(arguments, capsys):
    """The one line that a command fails with."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error


def test_indexes_that_are_of_something_else(exported, run, tmp_path, capsys):
    other = tmp_path / "index.faiss"
    vectors = np.random.default_rng(0).normal(size=(9, 128))
    GalleryIndex.build(vectors).save(other)
    known = json.loads((exported / "manifest.json").read_text())["gallery"]
    error = failed(["verify", str(exported), "--index", str(other)], capsys)
    assert known["index"] in error
    assert known["key"] in error
    (tmp_path / "key.json").write_text(json.dumps(known["key"]))  # says that it is ours, and is too short
    assert "holds 9 vectors; the search gallery has" in failed(["verify", str(exported), "--index", str(other)], capsys)
    mixed = GalleryIndex.load(index_of(run)).vectors()[::-1].copy()
    GalleryIndex.build(mixed).save(other)
    assert "the manifest has" in failed(["verify", str(exported), "--index", str(other)], capsys)


def test_a_file_that_was_exchanged_is_noticed(exported, tmp_path, capsys):
    from cmpnas.export.bundle import describe_files

    shutil.copytree(exported, tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    weights = torch.load(tmp_path / "copy" / "weights.pt", weights_only=True)
    weights["network.stem.0.weight"] += 0.1
    torch.save(weights, tmp_path / "copy" / "weights.pt")
    assert "weights.pt is damaged (hash" in failed(["verify", str(tmp_path / "copy")], capsys)
    manifest["files"] = describe_files(tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(manifest))
    assert "model.py differs from query.pt2 by" in failed(["verify", str(tmp_path / "copy")], capsys)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--pick", "bets"], "unknown pick 'bets'"),
        (["--preprocess", "hwc"], "--preprocess 'hwc' is none of nhwc"),
        (["--tolerance", "-1"], "a tolerance of -1 points"),
        (["--tolerance", "nan"], "a tolerance of nan points"),
        (["--pick", "cheapest", "--out", "/dev/null/bundle"], "cannot write to /dev/null/bundle"),
    ],
)
def test_mistakes(run, more, message, capsys):
    assert message in failed(["export", str(run), *more], capsys)
    assert not (run / "export").exists()


def test_another_network_in_the_file_is_noticed(run, tmp_path, capsys, monkeypatch):
    from cmpnas.pipeline import export

    honest = export.trace

    def wrong(encoder, example):
        return honest(torch.nn.Sequential(encoder, torch.nn.Tanh()), example)

    monkeypatch.setattr(export, "trace", wrong)
    out = tmp_path / "bundle"
    error = failed(["export", str(run), "--pick", "cheapest", "--out", str(out)], capsys)
    assert "query.onnx differs from torch by" in error
    assert "Nothing was exported." in error
    assert not out.exists()


def test_pictures_in_the_graph_find_what_float_pictures_find(run, exported, tmp_path):
    """At the network's own size preparing in the graph changes nothing."""
    import onnxruntime

    out = tmp_path / "bundle"
    assert main(["export", str(run), "--pick", "cheapest", "--out", str(out), "--preprocess", "nhwc"]) == 0
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    sys.path.insert(0, str(exported))
    try:
        expected = __import__("model").load()(to_float(pixels)).detach().numpy()
    finally:
        sys.path.remove(str(exported))
        sys.modules.pop("model", None)
    got = onnxruntime.InferenceSession(str(out / "query.onnx")).run(
        None, {"images": pixels.permute(0, 2, 3, 1).contiguous().numpy()}
    )[0]
    assert np.abs(got - expected).max() < 1e-5
