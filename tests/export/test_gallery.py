"""The gallery model as one file, whoever made it: the vectors that the option itself gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cmpnas.data.settings import ShopSettings
from cmpnas.export.gallery import write_gallery
from cmpnas.export.graph import run_onnx
from cmpnas.export.join import NoGraphError
from cmpnas.export.pictures import Pictures
from cmpnas.gallery.brought import BroughtGallery, as_it_is, open_model
from cmpnas.gallery.precomputed import PrecomputedGallery
from cmpnas.gallery.settings import OnnxSettings, PrecomputedSettings, TorchscriptSettings
from cmpnas.models import build_network
from tests.conftest import to_onnx

_LOOK = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
_HEAD = {"kind": "softmax", "dim": 8, "train": {"epochs": 1, "batch_size": 8, "lr": 0.1}}


@pytest.fixture(scope="module")
def files(small, tmp_path_factory):
    torch.manual_seed(0)
    network, folder = build_network(small, small.extremes()[0]).eval(), tmp_path_factory.mktemp("models")
    to_onnx(network, 32, folder / "net.onnx")
    torch.jit.trace(network, torch.zeros(2, 3, 32, 32)).save(folder / "net.pt")
    return folder


@pytest.mark.parametrize(("kind", "file"), [(OnnxSettings, "net.onnx"), (TorchscriptSettings, "net.pt")])
def test_a_brought_model_between_its_feed_and_its_projection(kind, file, files, tmp_path):
    settings = kind(kind=file.replace("net.pt", "torchscript").removeprefix("net."), name="big",
                    file=str(files / file), projection=_HEAD, **_LOOK)  # fmt: skip
    model = open_model(settings, ShopSettings(reader="shop", size=24), None)  # it wants 32 and is given 24
    torch.manual_seed(1)
    projection = nn.Sequential(nn.RMSNorm(16, eps=1e-12, elementwise_affine=False), nn.Linear(16, 8))
    option = BroughtGallery(settings, 1.0, 8, nn.Sequential(model, projection).eval(), None)
    taken = Pictures.parse("nhwc:30x40", 24)
    write_gallery(option, taken, tmp_path / "gallery.onnx")
    pictures = taken.example(7)
    expected = option.encoder(taken.preparation()(torch.from_numpy(pictures))).numpy()
    run = run_onnx(tmp_path / "gallery.onnx")
    for size in (1, 2, 7):
        assert np.abs(run(pictures[:size]) - expected[:size]).max() < 1e-5


def test_a_brought_model_as_it_is(files, tmp_path):
    settings = OnnxSettings(kind="onnx", name="big", file=str(files / "net.onnx"))
    option, taken = as_it_is(settings, open_model(settings, ShopSettings(reader="shop", size=32), None)), Pictures(32)
    write_gallery(option, taken, tmp_path / "gallery.onnx")
    pictures = taken.example(3)
    expected = option.encoder(torch.from_numpy(pictures)).numpy()
    assert np.abs(run_onnx(tmp_path / "gallery.onnx")(pictures) - expected).max() < 1e-5


@pytest.mark.parametrize("kind", ["pooled", "half", "script"])
def test_maps_of_one_place_and_half_floats(kind, files, tmp_path):
    """What a model gives may be (N, W, 1, 1), or of half precision."""
    import onnx

    if kind == "script":

        class Pooled(nn.Module):
            def __init__(self):
                super().__init__()
                self.convolution = nn.Conv2d(3, 5, 3, stride=2)

            def forward(self, x):
                return self.convolution(x).mean((2, 3), keepdim=True)

        torch.jit.trace(Pooled().eval(), torch.zeros(2, 3, 32, 32)).save(tmp_path / "x.pt")
        settings = TorchscriptSettings(kind="torchscript", name="big", file=str(tmp_path / "x.pt"), mflops=1.0)
    else:
        dtype, kept = ("float16", np.float16) if kind == "half" else ("float", np.float32)
        weights = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(kept)
        model = onnx.parser.parse_model(f"""
            <ir_version: 10, opset_import: ["": 20]>
            net ({dtype}[n, 3, 32, 32] x) => ({dtype}[n, 5, 1, 1] out) {{
                seen = Conv<strides = [2, 2]> (x, w)
                out = GlobalAveragePool (seen)
            }}""")
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
        onnx.save(model, tmp_path / "x.onnx")
        settings = OnnxSettings(kind="onnx", name="big", file=str(tmp_path / "x.onnx"))
    option, taken = as_it_is(settings, open_model(settings, ShopSettings(reader="shop", size=32), None)), Pictures(32)
    write_gallery(option, taken, tmp_path / "gallery.onnx")
    pictures = taken.example(3)
    expected = option.encoder(torch.from_numpy(pictures)).numpy()
    assert expected.shape == (3, 5)
    assert np.abs(run_onnx(tmp_path / "gallery.onnx")(pictures) - expected).max() < (2e-3 if kind == "half" else 1e-5)


def test_embeddings_are_no_model(tmp_path):
    settings = PrecomputedSettings(kind="precomputed", name="ours", file="x.npz", mflops=1)
    option = PrecomputedGallery(settings, np.eye(3, dtype=np.float32), None)
    with pytest.raises(NoGraphError, match="gallery 'ours' has no model to export"):
        write_gallery(option, Pictures(32), tmp_path / "gallery.onnx")
