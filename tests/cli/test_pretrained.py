"""A supernet that starts from finished weights: whose run it is, and what is refused before anything is made."""

from __future__ import annotations

import json

import pytest
import torch

from cmpnas.cli.app import main
from cmpnas.models import build_network
from cmpnas.space import load_space
from tests.conftest import QUICK, to_onnx


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    space = load_space("mobile_small", size=32)
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("models")
    return to_onnx(build_network(space, space.extremes()[1]).eval(), 32, folder / "net.onnx")


def search(run, *overrides):
    sets = [part for override in (*QUICK, "search.trials=4", *overrides) for part in ("--set", override)]
    return main(["search", "--run", str(run), "--resume", *sets])


def test_a_supernet_starts_from_the_file_and_its_run_is_of_that_file(file, tmp_path, capsys):
    run, pretrained = tmp_path / "run", f"query.pretrained.file={file}"
    assert search(run, pretrained) == 0
    assert len((run / "records.jsonl").read_text().splitlines()) == 4
    assert main(["train", str(run), "--pick", "best"]) == 0
    assert search(run) == 2
    assert "query.pretrained" in capsys.readouterr().err
    other = tmp_path / "other"
    assert search(other) == 0
    scores = [json.loads((path / "front.json").read_text())["pairs"][0]["scores"] for path in (run, other)]
    assert scores[0] != scores[1]


def test_weights_that_do_not_fit_are_refused_at_once(file, tmp_path, capsys):
    run = tmp_path / "run"
    for overrides, words in (
        (
            [f"query.pretrained.file={file}", "query.space=tiny"],
            "convolution 2 is (32, 16, 1, 1) in the largest network of space 'tiny'",
        ),
        ([f"query.pretrained.file={tmp_path / 'none.onnx'}"], "none.onnx does not exist"),
        ([f"query.pretrained.file={file}", "query.pretrained.std=[0, 1, 1]"], "query.pretrained.std"),
    ):
        assert search(run, *overrides) == 2
        err = capsys.readouterr().err
        assert words in err
        assert "Traceback" not in err
    assert not run.exists()
