"""Models that the user brings: the same embeddings as at home, a projection that learns, clear words for the rest."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F

from cmpnas.cost.audit import audit
from cmpnas.data.images import ArrayImages, to_float
from cmpnas.data.items import Items
from cmpnas.data.settings import ShopSettings
from cmpnas.errors import DataError, RecipeError, RunError
from cmpnas.gallery.base import Embedded, anchor
from cmpnas.gallery.brought import as_it_is, open_model
from cmpnas.gallery.projection import load_projected, make_projection
from cmpnas.gallery.settings import (
    OnnxSettings,
    SoftmaxProjection,
    TimmSettings,
    TorchscriptSettings,
    WhiteningProjection,
)
from cmpnas.models import build_network
from cmpnas.recipe import load_recipe
from tests.conftest import to_onnx

SIDE = 32


@pytest.fixture(scope="module")
def network(small):
    torch.manual_seed(0)
    network = build_network(small, small.extremes()[1])
    for name, values in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(values)
    return network.eval()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    to_onnx(network, SIDE, folder / "net.onnx")
    torch.jit.trace(network, torch.zeros(2, 3, SIDE, SIDE)).save(folder / "net.pt")
    return folder


def pictures(n, size=SIDE, seed=0):
    pixels = torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Items(ArrayImages(pixels), np.arange(n) % 3 + 5, None, np.arange(n))


def onnx(file, **more):
    return OnnxSettings(kind="onnx", name="big", file=str(file), **more)


def torchscript(file, **more):
    return TorchscriptSettings(kind="torchscript", name="big", file=str(file), **more)


def opened(settings, size=SIDE):
    return open_model(settings, ShopSettings(reader="shop", size=size), None)


@pytest.mark.parametrize(("settings", "file"), [(onnx, "net.onnx"), (torchscript, "net.pt")])
def test_a_copy_of_a_network_embeds_like_the_network(settings, file, network, files):
    items = pictures(70)
    option = as_it_is(found := settings(files / file), opened(found))
    with torch.no_grad():
        expected = F.normalize(network(to_float(items.images.pixels)))
    assert option.embed(items) == pytest.approx(expected.numpy(), abs=1e-5)
    batch = option.encoder(to_float(items.images.pixels[:5]))
    assert batch.numpy() == pytest.approx(expected[:5].numpy(), abs=1e-5)
    assert option.mflops * 1e6 == audit(network, SIDE).macs
    assert (option.embedding_dim, option.classifier, option.settings.kind) == (16, None, found.kind)


@pytest.mark.parametrize(("settings", "file"), [(onnx, "net.onnx"), (torchscript, "net.pt")])
def test_a_loss_can_keep_what_the_encoder_gives(settings, file, files):
    option = as_it_is(found := settings(files / file), opened(found))
    given = option.encoder(torch.zeros(2, 3, SIDE, SIDE, requires_grad=True))
    assert not given.requires_grad
    other = torch.ones(2, 16, requires_grad=True)
    (given * other).sum().backward()
    assert torch.equal(other.grad, given)


@pytest.mark.parametrize(("size", "antialias"), [(20, False), (48, True)])
def test_pictures_of_another_size_are_resized(size, antialias, network, files):
    option = as_it_is(found := onnx(files / "net.onnx"), opened(found, size))
    images = to_float(pictures(4, size).images.pixels)
    whole = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=antialias, align_corners=False)
    with torch.no_grad():
        expected = F.normalize(network(whole))
    assert option.encoder(images).numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_size_is_the_files_or_the_settings_or_the_recipes(files, tmp_path):
    anything = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    torch.onnx.export(
        anything, (torch.zeros(1, 3, 16, 16),), str(tmp_path / "any.onnx"), dynamo=False, input_names=["x"],
        dynamic_axes={"x": {0: "b", 2: "h", 3: "w"}},
    )  # fmt: skip
    assert opened(onnx(files / "net.onnx"), 20).size == SIDE
    assert opened(onnx(tmp_path / "any.onnx"), 20).size == 20
    large = opened(onnx(tmp_path / "any.onnx", size=24), 20)
    assert (large.size, large.width, large.mflops) == (24, 4, 22 * 22 * 4 * 27 / 1e6)
    assert opened(torchscript(files / "net.pt", size=24), 20).size == 24
    assert opened(torchscript(files / "net.pt"), 20).size == 20


def test_mean_and_std_are_of_pictures_from_zero_to_one(tmp_path):
    torch.jit.script(nn.AvgPool2d(8)).save(str(tmp_path / "mean.pt"))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8)[None, :, None, None].expand(2, 3, 8, 8)
    expected = [(value / 255 - m) / s for value, m, s in zip((0, 128, 255), mean, std, strict=True)]
    model = opened(torchscript(tmp_path / "mean.pt", mean=mean, std=std, mflops=1), 8)
    assert model(to_float(pixels))[0].tolist() == pytest.approx(expected, abs=1e-6)
    plain = opened(torchscript(tmp_path / "mean.pt", mflops=1), 8)
    assert plain(to_float(pixels))[0].tolist() == to_float(torch.tensor([0, 128, 255])).tolist()


def test_a_stated_cost_wins(files):
    assert opened(onnx(files / "net.onnx", mflops=7.5)).mflops == 7.5


def test_key_follows_the_content_of_every_file(network, files, tmp_path):
    first = opened(onnx(files / "net.onnx")).fingerprint
    (tmp_path / "copy.onnx").write_bytes((files / "net.onnx").read_bytes())
    assert opened(onnx(tmp_path / "copy.onnx")).fingerprint == first
    program = torch.onnx.export(network, (torch.zeros(1, 3, SIDE, SIDE),), dynamo=True, verbose=False)
    program.save(str(tmp_path / "two.onnx"), external_data=True)
    before = opened(onnx(tmp_path / "two.onnx"))
    weights = bytearray((tmp_path / "two.onnx.data").read_bytes())
    weights[1] ^= 1
    (tmp_path / "two.onnx.data").write_bytes(weights)
    assert opened(onnx(tmp_path / "two.onnx")).fingerprint != before.fingerprint
    assert before(torch.zeros(3, 3, SIDE, SIDE)).shape == (3, 16)  # a file of batch 1 is run one by one


def by_hand(nodes, path, kind=TensorProto.FLOAT, shape=("b", 3, 8, 8), outputs=("y",), inputs=()):
    """A graph of one 3 x 3 convolution ``x w`` and whatever comes after it."""
    weight = helper.make_tensor("w", kind, (4, 3, 3, 3), np.full(108, 0.1))
    number = helper.make_tensor("n", kind, (), [math.nan])
    values = [helper.make_tensor_value_info(name, kind, dims) for name, dims in (("x", shape), *inputs)]
    ends = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph(nodes, "by hand", values, ends, [weight, number])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


CONV = helper.make_node("Conv", ["x", "w"], ["c"])
POOL = helper.make_node("GlobalAveragePool", ["c"], ["y"])


def test_an_onnx_file_in_half_precision_is_cast(tmp_path):
    model = opened(onnx(by_hand([CONV, POOL], tmp_path / "half.onnx", TensorProto.FLOAT16)), 8)
    features = model(torch.ones(2, 3, 8, 8))
    assert features.dtype == torch.float32
    assert features.numpy() == pytest.approx(np.full((2, 4), 2.7), abs=2e-3)


def test_a_torchscript_file_in_half_precision_is_cast(network, tmp_path):
    torch.jit.trace(network, torch.zeros(1, 3, SIDE, SIDE)).half().save(str(tmp_path / "half.pt"))
    assert opened(torchscript(tmp_path / "half.pt"))(torch.zeros(2, 3, SIDE, SIDE)).dtype == torch.float32


def test_one_of_several_outputs(tmp_path):
    nodes = [CONV, POOL, helper.make_node("Flatten", ["y"], ["z"]), helper.make_node("Neg", ["z"], ["minus"])]
    path = by_hand(nodes, tmp_path / "two.onnx", outputs=("z", "minus"))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(opened(onnx(path), 8)(images), -opened(onnx(path, output="minus"), 8)(images))
    with pytest.raises(DataError, match=r"unknown output 'minsu'. Did you mean 'minus'\?"):
        opened(onnx(path, output="minsu"), 8)


ONNX_MISTAKES = [
    ([CONV], {"outputs": ("c",)}, r"gives \(2, 4, 6, 6\) for 2 pictures; it must give one vector each"),
    ([CONV, POOL], {"inputs": [("k", (1,))]}, r"has 2 inputs \(x, k\)"),
    ([CONV, POOL], {"shape": ("b", 1, 8, 8)}, r"input 'x' is \(\?, 1, 8, 8\); it must be \(batch, 3, side, side\)"),
    ([CONV, POOL], {"shape": ("b", 8, 8, 3)}, r"input 'x' is \(\?, 8, 8, 3\)"),
    ([CONV, POOL], {"shape": (5, 3, 8, 8)}, "takes 5 pictures at a time; export it with a dynamic batch"),
    ([CONV, POOL], {"kind": TensorProto.DOUBLE}, "input 'x' is double; it must be float or float16"),
    ([CONV, helper.make_node("Mul", ["c", "n"], ["m"]), helper.make_node("GlobalMaxPool", ["m"], ["y"])], {},
     "gives NaN or infinity for a picture"),
    ([CONV, helper.make_node("Nope", ["c"], ["y"])], {}, r"cannot be run \(.*Nope.*\); export it again"),
    ([helper.make_node("GlobalAveragePool", ["x"], ["y"])], {}, "multiplies nothing that can be counted; state its"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "options", "message"), ONNX_MISTAKES)
def test_onnx_models_that_are_no_encoders(nodes, options, message, tmp_path):
    path = by_hand(nodes, tmp_path / "bad.onnx", **options)
    with pytest.raises(DataError, match=message) as caught:
        opened(onnx(path), 8)
    assert str(caught.value).startswith("gallery 'big': ")
    assert "\n" not in str(caught.value)


def test_another_size_than_the_files_is_refused(files):
    with pytest.raises(DataError, match="takes pictures of 32 px, not 40; leave the size out"):
        opened(onnx(files / "net.onnx", size=40))


class Two(nn.Module):
    def forward(self, images, labels):
        return images.mean((2, 3)) + labels


class Pair(nn.Module):
    def forward(self, images):
        return images.mean((2, 3)), images


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Two(), r"has 2 inputs \(images, labels\)"),
        (Pair(), "gives a tuple, not one tensor"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(48, 4)),
            r"cannot run on 2 pictures of 8 px \(.*192.*\); check its size",
        ),
        (nn.Flatten(0), r"gives \(384,\) for 2 pictures"),
        (nn.AdaptiveAvgPool2d(1), "multiplies nothing that can be counted; state its mflops"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.AdaptiveAvgPool2d(1)), "cannot run on 2 pictures of 8 px"),
        (nn.Sequential(nn.Conv2d(3, 4, 8), nn.Threshold(9.0, math.inf)), "NaN or infinity"),
    ],
    ids=["inputs", "outputs", "size", "batch", "cost", "channels", "infinite"],
)
def test_torchscript_models_that_are_no_encoders(module, message, tmp_path):
    torch.jit.script(module).save(str(tmp_path / "bad.pt"))
    with pytest.raises(DataError, match=message) as caught:
        opened(torchscript(tmp_path / "bad.pt"), 8)
    assert "\n" not in str(caught.value)


class Batched(nn.Module):
    def forward(self, images):
        return self.body(images).reshape(2, -1)

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 8)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Batched(), r"gives \(2, 2\) for 1 pictures"),
        (nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten(), nn.Dropout(0.5)), "other features for a picture when it sees"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), "in eval mode"),
    ],
    ids=["batch", "dropout", "batchnorm"],
)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_models_traced_with_a_batch_or_in_training_are_refused(module, message, tmp_path):
    torch.manual_seed(0)
    torch.jit.trace(module.train(), torch.rand(2, 3, 8, 8), check_trace=False).save(str(tmp_path / "bad.pt"))
    with pytest.raises(DataError, match=message):
        opened(torchscript(tmp_path / "bad.pt"), 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [(onnx, "is damaged or no ONNX model"), (torchscript, "is damaged or no TorchScript file")],
)
def test_missing_and_damaged_files_are_named(settings, message, files, tmp_path):
    with pytest.raises(DataError, match=r"gallery 'big': .*none does not exist; name a file"):
        opened(settings(tmp_path / "none"))
    (tmp_path / "bad").write_bytes((files / "net.onnx").read_bytes()[:99])
    with pytest.raises(DataError, match=message):
        opened(settings(tmp_path / "bad"))


def test_files_are_found_below_the_recipes_folder_or_the_data_folder(files, tmp_path):
    data = ShopSettings(reader="shop", size=SIDE, folder="own")
    (tmp_path / "own").mkdir()
    for folder in ("", "own"):
        (tmp_path / folder / "net.pt").write_bytes((files / "net.pt").read_bytes())
        assert open_model(torchscript("net.pt"), data, str(tmp_path)).width == 16
        (tmp_path / folder / "net.pt").unlink()
    with pytest.raises(DataError, match=r"net\.pt does not exist"):
        open_model(torchscript("net.pt"), data, str(tmp_path))


# timm, which is not needed for anything else


@pytest.fixture
def timm(monkeypatch):
    """A library of one model, which takes pictures of 24 px."""
    library = ModuleType("timm")

    def create_model(name, *, pretrained, num_classes):
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model.pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "input_size": (3, 24, 24)}
        assert pretrained
        assert num_classes == 0
        return model

    library.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", library)
    return library


def test_a_timm_model_is_fed_as_it_was_trained(timm):
    settings = TimmSettings(kind="timm", name="big", model="tiny", size=24)
    model = opened(settings)
    images = to_float(pictures(2, 24).images.pixels)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    with torch.no_grad():
        expected = timm.create_model("tiny", pretrained=True, num_classes=0)(((images + 1) / 2 - mean) / std)
    assert model(images).detach().numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert model.mflops == 22 * 22 * 5 * 27 / 1e6
    assert (model.width, model.fingerprint) == (5, opened(settings).fingerprint)
    plain = opened(TimmSettings(kind="timm", name="big", model="tiny", mean=(0.5,) * 3, std=(0.5,) * 3))
    assert plain.size == SIDE
    assert not torch.allclose(model(images), plain(images), atol=1e-3)


def test_timm_models_that_there_are_not(timm, monkeypatch):
    with pytest.raises(DataError, match=r"timm cannot make 'tinny' \(Unknown model \(tinny\)\)"):
        opened(TimmSettings(kind="timm", name="big", model="tinny"))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DataError, match=r"run: pip install -c constraints\.txt -e '\.\[timm\]'$"):
        opened(TimmSettings(kind="timm", name="big", model="tiny"))


# The projection


class Mixed(nn.Module):
    """Three channels' means drowned in noise that the picture brings along: only a projection tells classes apart."""

    def forward(self, images):
        noise = images[:, :, :1].flatten(1)
        return torch.cat([images[:, :, 1:].mean((2, 3)), noise], 1)


def coloured(n_classes, per_class, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), per_class)
    pixels = rng.integers(0, 256, (len(labels), 3, 8, 8))
    # Colours on a ring: means alone carry the class.
    angle = 2 * np.pi * labels / n_classes
    tint = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], 1) * 90 + 128
    pixels[:, :, 1:] = tint[:, :, None, None]
    return Items(ArrayImages(torch.from_numpy(pixels).to(torch.uint8)), labels + 40, None, np.arange(len(labels)))


PLAN = {
    "kind": "softmax",
    "dim": 6,
    "head": {"margin": 0.1, "scale": 16},
    "train": {"epochs": 40, "batch_size": 40, "lr": 0.02},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixed") / "mixed.pt"
    torch.jit.script(Mixed()).save(str(path))
    return torchscript(path, mflops=3, size=8, projection=PLAN)


def hits(option, query, gallery):
    nearest = (option.embed(query) @ option.embed(gallery).T).argmax(1)
    return (gallery.labels[nearest] == query.labels).mean()


def test_a_projection_learns_what_separates(mixed, tmp_path):
    train, test = coloured(8, 30), coloured(8, 10, seed=1)
    model = opened(mixed)
    make_projection(mixed, mixed.projection, model, train, tmp_path, seed=0)
    plain, option = as_it_is(mixed, model), load_projected(mixed, mixed.projection, model, tmp_path)
    assert hits(plain, test, train) < 0.6
    assert hits(option, test, train) > 0.95
    assert (option.embedding_dim, option.classifier.shape) == (6, (8, 6))
    assert option.mflops == 3 + model.width * 6 / 1e6
    vectors = option.embed(train)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(240), abs=1e-5)
    space = anchor(option, Embedded(vectors, vectors, vectors), train, train)
    assert ((vectors @ space.classifier.numpy().T).argmax(1) == space.labels.numpy()).mean() > 0.95
    assert (space.margin, space.scale) == (0.1, 16)
    batch = option.encoder(to_float(train.images.pixels[:7]))
    assert batch.numpy() == pytest.approx(vectors[:7], abs=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_a_projection_is_a_function_of_the_seed(mixed, tmp_path):
    train, model, weights = coloured(4, 10), opened(mixed), []
    plan = SoftmaxProjection.model_validate(PLAN | {"train": {"epochs": 2, "batch_size": 8, "lr": 0.02}})
    for n, seed in enumerate((5, 5, 6)):
        make_projection(mixed, plan, model, train, tmp_path / str(n), seed=seed)
        weights.append(load_projected(mixed, plan, model, tmp_path / str(n)).classifier)
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_a_projection_of_another_model_is_refused(mixed, files, tmp_path):
    model = opened(mixed)
    plan = SoftmaxProjection.model_validate(PLAN | {"train": {"epochs": 1, "batch_size": 8, "lr": 0.02}})
    make_projection(mixed, plan, model, coloured(4, 10), tmp_path, seed=0)
    model.fingerprint = "another"
    with pytest.raises(RunError, match=r"model\.pt is of another model; delete it"):
        load_projected(mixed, plan, model, tmp_path)
    with pytest.raises(RunError, match=r"model\.pt does not hold a projection to 5 numbers"):
        load_projected(mixed, SoftmaxProjection.model_validate(PLAN | {"dim": 5}), model, tmp_path)


def test_a_whitening_separates_without_training(mixed, tmp_path):
    train, test = coloured(8, 30), coloured(8, 10, seed=1)
    model, plan = opened(mixed), WhiteningProjection(kind="whitening", dim=6, shrinkage=0.1)
    make_projection(mixed, plan, model, train, tmp_path, seed=0)
    option = load_projected(mixed, plan, model, tmp_path)
    assert hits(as_it_is(mixed, model), test, train) < 0.6
    assert hits(option, test, train) > 0.95
    vectors = option.embed(train)
    means = np.stack([vectors[train.labels == label].sum(0) for label in np.unique(train.labels)])
    assert option.classifier == pytest.approx(means, abs=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


# The recipe


def test_losses_know_the_head_of_the_projection_unless_told_otherwise():
    assert onnx("f", projection=PLAN).head.scale == 16
    assert onnx("f", projection=PLAN, head={"scale": 8}).head.scale == 8
    assert onnx("f").head.scale == 32
    again = OnnxSettings.model_validate(onnx("f", projection=PLAN).model_dump(mode="json"))
    assert again == onnx("f", projection=PLAN)


@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        ("{kind: onnx, name: big}", "gallery.file: required"),
        ("{kind: onnx, name: big, file: f, outptu: y}", "outptu: unknown key, did you mean 'output'"),
        ("{kind: timm, name: big}", "gallery.model: required"),
        ("{kind: onnx, name: big, file: f, mean: [123.7, 116.3, 103.5]}", "should be less than or equal to 1"),
        ("{kind: onnx, name: big, file: f, std: [0.2, 0, 0.2]}", "should be greater than 0"),
        ("{kind: onnx, name: big, file: f, mean: [0.5, 0.5]}", "gallery.mean.2: required"),
        ("{kind: onnx, name: big, file: f, mflops: 0}", "should be greater than 0"),
        (
            "{kind: onnx, name: big, file: f, projection: {kind: softmax, dim: 64}}",
            "gallery.projection.train: required",
        ),
        (
            "{kind: onnx, name: big, file: f, projection: {dim: 64}}",
            "kind: required, one of 'softmax', 'whitening'",
        ),
        ("{kind: onnx, name: big, file: f, projection: {kind: whitening, dim: 64, shrinkage: 0}}", "greater than 0"),
        ("{kind: keras, name: big, file: f}", "unknown kind 'keras'"),
    ],
)
def test_mistakes_in_the_recipe(gallery, message):
    with pytest.raises(RecipeError, match=r"has \d mistakes?:") as caught:
        load_recipe("quickstart", ["galleries=[]", f"gallery={gallery}"])
    assert message in str(caught.value)


def test_the_query_space_is_as_wide_as_the_projection():
    brought = "gallery={{kind: onnx, name: big, file: f{}}}"
    projected = ", projection: {kind: softmax, dim: 48, train: {epochs: 1, batch_size: 8, lr: 0.01}}"
    assert load_recipe("quickstart", ["galleries=[]", brought.format(projected)]).space().embedding_dim == 48
    assert load_recipe("quickstart", ["galleries=[]", brought.format("")]).space(77).embedding_dim == 77
