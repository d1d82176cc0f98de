"""The bundle refuses a file that does not do what the network did."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmpnas.errors import RunError
from cmpnas.export import bundle
from cmpnas.models import build_network
from cmpnas.retrieval import GalleryIndex


@pytest.fixture
def parts(small):
    torch.manual_seed(0)
    network = build_network(small, small.extremes()[0]).eval()
    index = GalleryIndex.build(np.random.default_rng(0).normal(size=(30, small.embedding_dim)))
    return network, torch.randn(3, 3, small.size, small.size), index


def test_fewer_pictures_than_the_largest_batch_are_repeated(parts, tmp_path):
    check = bundle.export_bundle(*parts, {}, {}, tmp_path)
    assert check["pictures"] >= 7
    assert check["max_abs_difference"] < 1e-4


def test_another_network_in_the_file_is_noticed(parts, tmp_path, monkeypatch):
    network, images, index = parts
    honest = bundle._to_onnx

    def wrong(encoder, example, path):
        other = bundle.UnitEncoder(torch.nn.Sequential(encoder.network, torch.nn.Tanh())).eval()
        honest(other, example, path)

    monkeypatch.setattr(bundle, "_to_onnx", wrong)
    with pytest.raises(RunError, match="nothing was exported"):
        bundle.export_bundle(network, images, index, {}, {}, tmp_path)
    assert not list(tmp_path.iterdir())
