"""A whole run against a model that the user brings."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.models import build_network
from cmpnas.space import load_space
from tests.conftest import QUICK, to_onnx


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An encoder that nobody trained, of 24 px."""
    torch.manual_seed(0)
    space = load_space("resnet_small", size=24, embedding_dim=20)
    return to_onnx(build_network(space, space.extremes()[0]), 24, tmp_path_factory.mktemp("model") / "big.onnx")


def search(folder, gallery, *more):
    shrunk = [override for override in QUICK if not override.startswith("gallery.")]
    overrides = [part for override in (*shrunk, f"gallery={gallery}") for part in ("--set", override)]
    return ["search", "--run", str(folder), "--budget-mflops", "2", *overrides, *more]


def onnx(model, more=""):
    return f"{{kind: onnx, name: big, file: {model}{more}}}"


PROJECTION = ", projection: {kind: softmax, dim: 12, train: {epochs: 2, batch_size: 32, lr: 0.01}}"


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_search_train_evaluate(model, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(search(folder, onnx(model), "--json")) == 0
    front = json.loads(capsys.readouterr().out)
    assert main(["cost", str(model), "--json"]) == 0
    mflops = json.loads(capsys.readouterr().out)["mflops"]
    option = front["pairs"][0]["gallery"]
    assert option == {"name": "big", "kind": "onnx", "mflops": mflops, "index_bytes": 80, "kept_bytes": 0}
    assert front["paragon"]["mflops"] == mflops
    assert main(["train", str(folder)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--json"]) == 0
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert systems[0]["name"].startswith("paragon")
    assert systems[0]["mflops"] == mflops
    assert 0 < systems[1]["scores"]["hit@1"] <= 1


def test_a_projection_gives_a_classifier_and_the_width(model, tmp_path, capsys):
    folder = tmp_path / "run"
    command = search(folder, onnx(model, PROJECTION), "--set", "query.loss={bct: 1, regression: 10}")
    assert main([*command, "--json"]) == 0
    front = json.loads(capsys.readouterr().out)
    before = (folder / "records.jsonl").read_bytes()
    assert main([*command, "--resume"]) == 0
    assert (folder / "records.jsonl").read_bytes() == before
    state = torch.load(folder / "gallery" / "big" / "model.pt", weights_only=True)
    assert state["classifier"].shape == (24, 12)
    capsys.readouterr()
    assert main(["cost", str(model), "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["mflops"]
    assert front["paragon"]["mflops"] == pytest.approx(alone + 20 * 12 / 1e6, abs=1e-12)


def test_another_file_under_the_same_name_is_noticed(model, tmp_path, capsys):
    copy = tmp_path / "big.onnx"
    copy.write_bytes(model.read_bytes())
    folder = tmp_path / "run"
    assert main(search(folder, onnx(copy))) == 0
    space = load_space("resnet_small", size=24, embedding_dim=20)
    torch.manual_seed(1)
    to_onnx(build_network(space, space.extremes()[0]), 24, copy)
    assert main(search(folder, onnx(copy), "--resume")) == 2
    assert "was made from other data or settings; name another --run" in last_line(capsys)


@pytest.mark.parametrize("plan", [["--dry-run"], []], ids=["dry", "run"])
@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        ("{kind: onnx, name: big, file: /no/such.onnx}", "/no/such.onnx does not exist; name a file"),
        ("{kind: torchscript, name: big, file: such.pt}", "such.pt does not exist; name a file"),
        ("{kind: timm, name: big, model: resnet50}", "timm cannot be imported"),
    ],
)
def test_what_is_missing_is_known_at_once(plan, gallery, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert main(search(tmp_path / "run", gallery, "--data", str(tmp_path), *plan)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_plan_needs_no_file_where_no_folder_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CMPNAS_DATA", raising=False)
    assert main(search(tmp_path / "run", "{kind: onnx, name: big, file: such.onnx}", "--dry-run")) == 0
    assert main(search(tmp_path / "run", "{kind: onnx, name: big, file: such.onnx}")) == 2
    assert "name their folder with --data or in CMPNAS_DATA" in last_line(capsys)


def test_a_batch_larger_than_the_training_split_is_known_before_the_run(model, tmp_path, capsys):
    gallery = onnx(model, PROJECTION.replace("32", "9999"))
    assert main(search(tmp_path / "run", gallery)) == 2
    assert "fewer than one batch of 9999" in last_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ", projection: {kind: whitening, dim: 21, shrinkage: 0.5}",
            "a whitening to 21 numbers needs as many directions",
        ),
        (PROJECTION + ", output: nothing", "unknown output 'nothing'"),
    ],
)
def test_what_a_model_cannot_give_is_known_before_the_run(more, message, model, tmp_path, capsys):
    assert main(search(tmp_path / "run", onnx(model, more))) == 2
    assert message in last_line(capsys)
    assert not (tmp_path / "run").exists()


def test_what_a_further_option_cannot_give_is_known_before_the_run(model, tmp_path, capsys):
    train = "transform: {kind: linear, train: {epochs: 1, batch_size: 8, lr: 0.01}}"
    other = onnx(model, f", output: nothing, {train}").replace("big,", "other,")
    assert main([*search(tmp_path / "run", onnx(model)), "--set", f"galleries=[{other}]"]) == 2
    assert "gallery 'other': unknown output 'nothing'" in last_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--audit"], "is one model, not a space; of the options only --size and --json apply"),
        (["--size", "25"], "takes pictures of 24 px, not 25"),
    ],
)
def test_mistakes_of_cost(model, arguments, message, capsys):
    assert main(["cost", str(model), *arguments]) == 2
    assert message in last_line(capsys)
    assert main(["cost", str(model)]) == 0
    assert "M params" in capsys.readouterr().out
