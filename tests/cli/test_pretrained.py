"""A supernet that starts from finished weights: whose run it is, and what is refused before anything is made."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from cmpnas.cli.app import main
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.errors import RecipeError
from cmpnas.models import build_network
from cmpnas.models.folded import folded_convolutions
from cmpnas.pipeline.pretrained import carve_pretrained, must_be_pretrained
from cmpnas.recipe import load_recipe
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
    capsys.readouterr()
    assert main(["train", str(run), "--pick", "best", "--start", "pretrained", "--loss", "vanilla", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"].endswith("+pretrained+vanilla1")
    assert told["trained"]["heterogeneous"] < told["supernet_weights"]["heterogeneous"]  # labels tell of no gallery
    assert search(run) == 2
    assert "query.pretrained" in capsys.readouterr().err
    other = tmp_path / "other"
    assert search(other) == 0
    scores = [json.loads((path / "front.json").read_text())["pairs"][0]["scores"] for path in (run, other)]
    assert scores[0] != scores[1]


def test_a_pick_may_start_from_the_file_alone(file, tmp_path):
    recipe = load_recipe("quickstart", [*QUICK, f"query.pretrained.file={file}"])
    space = recipe.space()
    smallest, largest = space.extremes()
    pixels = torch.randint(0, 256, (200, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    items = Items(ArrayImages(pixels), np.zeros(200, np.int64), None, np.arange(200))
    stem = folded_convolutions(file, (0.5,) * 3, (0.5,) * 3)[0][0]
    for arch in (largest, smallest):
        network = carve_pretrained(recipe, None, space, arch, items, 0)
        kernels = next(m for m in network.modules() if isinstance(m, nn.Conv2d)).weight
        found = torch.cdist(kernels.detach().cpu().flatten(1), stem.flatten(1)).min(1)
        assert found.values.max() < 1e-4
        assert len(set(found.indices.tolist())) == len(kernels)  # each is another of the file's
    with pytest.raises(RecipeError, match=r"no query\.pretrained"):
        must_be_pretrained(load_recipe("quickstart", QUICK))


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
