"""Shared small things: a space that is quick to build, a run that takes seconds, where real data are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cmpnas.export.graph import trace, write_onnx
from cmpnas.space import SearchSpace
from cmpnas.space.grow import Declared
from cmpnas.space.spec import check_spec

#: Overrides that shrink `quickstart` to seconds, for tests of behaviour rather than of results.
QUICK = (
    "data.size=32",
    "data.train_identities=24",
    "data.unlabelled_identities=8",
    "data.search_identities=8",
    "data.test_identities=8",
    "data.train_shots=[2, 4]",
    "gallery.train.epochs=1",
    "galleries=[]",
    "query.supernet.epochs=1",
    "query.train.epochs=1",
    "query.supernet.batch_size=32",
    "query.train.batch_size=32",
    "search.calibration_images=32",
    "search.population=6",
    "search.trials=8",
)


#: The data section of runs on a set.npz that the columns part (train, search, test) and side (query, gallery) divide.
DIVIDED = {
    "reader": "npz", "size": 16, "file": "set.npz", "images": "images", "label": "labels", "train": {"part": 0},
    "search": {"query": {"part": 1, "side": 0}, "gallery": {"part": 1, "side": 1}},
    "test": {"query": {"part": 2, "side": 0}, "gallery": {"part": 2, "side": 1}},
}  # fmt: skip


def small_spec(**changes: object) -> dict[str, object]:
    """The content of a well-formed space file of a few hundred architectures."""
    return {
        "name": "small",
        "size": 32,
        "embedding_dim": 16,
        "stem": {"width": 8, "stride": 2},
        "stages": [
            {"name": "a", "block": "mbconv", "width": [8, 16], "depth": [1, 2], "stride": 2,
             "kernel": [3, 5], "expansion": [1, 2]},
            {"name": "b", "block": "mbconv", "width": [16, 24], "depth": [1, 2], "stride": 2,
             "kernel": [3], "expansion": [2, 4]},
        ],
        "last": {"width": 32, "kernel": 1},
    } | changes  # fmt: skip


def to_onnx(network: torch.nn.Module, size: int, path: Path) -> Path:
    """Write ``network`` as people do: one file, a dynamic batch, input ``images``, output ``embedding``."""
    write_onnx(trace(network, np.zeros((2, 3, size, size), np.float32)), path)
    return path


@pytest.fixture(scope="session")
def small() -> SearchSpace:
    return SearchSpace(Declared(check_spec(small_spec(), "small")))


@pytest.fixture
def data_root() -> Path:
    """The folder of real data, or a skip."""
    named = os.environ.get("CMPNAS_DATA")
    found = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not found.is_dir():
        pytest.skip("real data: set CMPNAS_DATA to their folder")
    return found
