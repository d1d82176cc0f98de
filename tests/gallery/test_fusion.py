"""Fusion: features of sources, a mixer learned jointly or first, and clear words for what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmpnas.cost.audit import audit
from cmpnas.data.augment import Augment
from cmpnas.data.images import ArrayImages, to_float
from cmpnas.data.items import UNLABELLED, Items, union
from cmpnas.data.settings import ShopSettings
from cmpnas.errors import DataError, RecipeError, RunError
from cmpnas.gallery.base import embed_views
from cmpnas.gallery.brought import open_model
from cmpnas.gallery.fusion import begin_mixing, fill_bank, load_fusion, save_mixing, save_whitened
from cmpnas.gallery.local import local_tokens
from cmpnas.gallery.projection import load_projected, make_projection
from cmpnas.gallery.settings import (
    FusionSettings,
    LocalSettings,
    OnnxSettings,
    PrecomputedSettings,
    SingleSettings,
)
from cmpnas.gallery.single import load_single, train_single
from cmpnas.gallery.sources import of_brought, of_saved, of_single
from cmpnas.gallery.whitening import whitening
from cmpnas.models import build_network
from cmpnas.recipe import load_recipe
from cmpnas.train.loop import Plan
from cmpnas.train.mixing import train_mixer
from tests.conftest import to_onnx

SIDE, N = 16, 60
DATA = ShopSettings(reader="shop", size=SIDE)


def pictures(n=N, seed=0, first=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return Items(ArrayImages(pixels), np.arange(n) % 6 + 40, None, np.arange(n) + first)


@pytest.fixture(scope="module")
def network(small):
    torch.manual_seed(0)
    return build_network(small, small.extremes()[1]).eval()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    to_onnx(network, SIDE, folder / "net.onnx")
    rng = np.random.default_rng(0)
    np.save(folder / "saved.npy", rng.normal(size=(N, 5)).astype(np.float32) * 100)
    np.save(folder / "places.npy", rng.normal(size=(N, 3, 4)).astype(np.float16))
    np.savez(folder / "saved.npz", embeddings=np.load(folder / "saved.npy"))
    return folder


def saved(folder, name="saved", file="saved.npy", total=N):
    settings = PrecomputedSettings(kind="precomputed", name=name, file=str(folder / file), mflops=3)
    return of_saved(settings, DATA, str(folder), total)


def settings(**more):
    sources = ({"kind": "precomputed", "name": "saved", "file": "saved.npy", "mflops": 3},)
    content = {"kind": "fusion", "name": "mixed", "sources": sources, "embedding_dim": 8, "momentum": 0.9}
    return FusionSettings.model_validate(content | more)


# Local features


def test_the_longest_places_of_a_map():
    maps = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    found = local_tokens(maps, 7, "norm")
    for picture in range(3):
        places = [maps[picture, :, i, j] for i in range(5) for j in range(6)]
        expected = sorted(places, key=lambda place: -float(place.square().sum()))[:7]
        assert torch.equal(found[picture], torch.stack(expected))


def test_a_grid_of_means_in_reading_order():
    maps = torch.arange(2 * 16.0).view(1, 2, 4, 4)
    found = local_tokens(maps, 4, "grid")[0]
    expected = [maps[0, :, i : i + 2, j : j + 2].mean((1, 2)) for i in (0, 2) for j in (0, 2)]
    assert torch.equal(found, torch.stack(expected))


def test_maps_that_are_too_small_or_none():
    with pytest.raises(DataError, match=r"10 local features are wanted of \(4, 3, 3\)"):
        local_tokens(torch.zeros(1, 4, 3, 3), 10, "norm")
    with pytest.raises(DataError, match=r"which is no map"):
        local_tokens(torch.zeros(1, 4), 1, "norm")


def unit(features):
    return features / features.square().mean(-1, keepdim=True).sqrt()


def last_map(network, images):
    *trunk, _ = network
    maps = images.contiguous(memory_format=torch.channels_last)
    for layer in trunk:
        maps = layer(maps)
    return maps


def test_a_map_within_an_onnx_graph(network, folder):
    from onnx import load

    graph = load(folder / "net.onnx").graph
    pooled = next(node for node in graph.node if node.op_type in ("ReduceMean", "GlobalAveragePool"))
    brought = OnnxSettings(kind="onnx", name="net", file=str(folder / "net.onnx"))
    source = of_brought(brought, LocalSettings(tokens=2, output=pooled.input[0]), DATA, None)
    items = pictures()
    found = source.read(items, np.arange(9))
    images = to_float(items.images.pixels[:9])
    with torch.no_grad():
        expected = unit(network(images)), unit(local_tokens(last_map(network, images), 2, "norm"))
    assert found[0][:, 0] == pytest.approx(expected[0].numpy(), abs=3e-3)
    assert found[1] == pytest.approx(expected[1].numpy(), abs=3e-3)
    assert (source.names, source.kinds) == (["net", "net.local"], ("global", "local"))
    assert source.mflops * 1e6 == audit(network, SIDE).macs
    with pytest.raises(DataError, match="no node of the ONNX model gives 'nothing'; the last give"):
        of_brought(brought, LocalSettings(tokens=2, output="nothing"), DATA, None)
    with pytest.raises(DataError, match="which is no map of as many places"):
        of_brought(brought, LocalSettings(tokens=2, output="embedding"), DATA, None).read(items, np.arange(2))


def test_the_map_of_a_model_trained_here(tmp_path):
    plan = Plan(epochs=1, batch_size=20, lr=0.001, precision="fp32")
    single = SingleSettings(kind="single", name="r", space="resnet_small", arch="smallest", embedding_dim=8, train=plan)
    items = pictures()
    train_single(single, items, SIDE, tmp_path, "key", seed=0)
    option = load_single(single, SIDE, tmp_path, "key")
    source = of_single(option, LocalSettings(tokens=4, by="grid"), "key")
    images = to_float(items.images.pixels[:5])
    with torch.no_grad():
        maps = last_map(option.network, images)
    assert maps.shape[2:] == (1, 1)
    with pytest.raises(DataError, match="4 local features are wanted of"):
        source.read(items, np.arange(5))
    source = of_single(option, LocalSettings(tokens=1, by="grid"), "key")
    found = source.read(items, np.arange(5))
    assert found[0][:, 0] == pytest.approx(unit(torch.from_numpy(option.embed(items)[:5])).numpy(), abs=3e-3)
    assert found[1][:, 0] == pytest.approx(unit(maps.mean((2, 3))).numpy(), abs=3e-3)
    assert not option.network[-1]._forward_pre_hooks


# Saved features


def test_saved_features_follow_the_items(folder):
    array, places = np.load(folder / "saved.npy"), np.load(folder / "places.npy")
    items = Items(pictures().images, np.zeros(N, np.int64), None, np.arange(N)[::-1].copy())
    for file in ("saved.npy", "saved.npz"):
        source = saved(folder, file=file)
        (found,) = source.read(items, np.array([0, 7]))
        assert found[:, 0] == pytest.approx(unit(torch.from_numpy(array[[59, 52]])).numpy(), abs=3e-3)
    (found,) = saved(folder, file="places.npy").read(items, np.array([2]))
    assert found == pytest.approx(unit(torch.from_numpy(places[[57]]).float()).numpy(), abs=3e-3)


def test_saved_features_that_do_not_fit(folder, tmp_path):
    with pytest.raises(DataError, match=r"source 'saved': saved\.npy holds float32 \(60, 5\); features .* \(61, W\)"):
        saved(folder, total=61)
    with pytest.raises(DataError, match="does not exist; name a file"):
        saved(folder, file="none.npy")
    np.save(tmp_path / "flat.npy", np.zeros(N))
    with pytest.raises(DataError, match=r"holds float64 \(60,\)"):
        saved(tmp_path, file="flat.npy")
    (tmp_path / "bad.npy").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"bad\.npy cannot be read"):
        saved(tmp_path, file="bad.npy")
    np.savez(tmp_path / "other.npz", vectors=np.zeros((N, 2)))
    with pytest.raises(DataError, match="has no array 'embeddings'; it holds vectors"):
        saved(tmp_path, file="other.npz")
    broken = np.load(folder / "saved.npy")
    broken[17, 2] = np.nan
    np.save(tmp_path / "nan.npy", broken)
    with pytest.raises(DataError, match="source 'saved' gives NaN or infinity for row 17 of the data set"):
        fill_bank(tmp_path / "bank", [saved(tmp_path, file="nan.npy")], pictures(), "data")


# Filling a bank


def test_each_source_is_embedded_once(folder, tmp_path):
    items, seen = pictures(), []
    source = saved(folder)

    def look(items, indices):
        seen.extend(items.rows[indices])
        return source.look(items, indices)

    watched = replace(source, look=look)
    fill_bank(tmp_path / "bank", [watched], items, "data")
    bank = fill_bank(tmp_path / "bank", [watched, saved(folder, "places", "places.npy")], items, "data")
    assert sorted(seen) == list(range(N))
    assert bank.shapes == ((1, 5), (3, 4))
    assert fill_bank(tmp_path / "bank", [saved(folder, "places", "places.npy")], items, "data").names == ("places",)
    with pytest.raises(DataError, match=r"source 'saved' of .* is of another model or other settings"):
        fill_bank(tmp_path / "bank", [saved(folder, file="places.npy")], items, "data")


def test_a_union_has_every_item_once_in_order():
    first, second = pictures(6, 1, first=10), pictures(5, 2, first=3)
    overlap = Items(first.images, first.labels, None, first.rows)
    both = union([first, second, overlap])
    assert both.rows.tolist() == [3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15]
    assert (both.labels == UNLABELLED).all()
    wanted = [second.images.pixels[1], first.images.pixels[5], second.images.pixels[4], first.images.pixels[0]]
    assert torch.equal(both.images.read(np.array([1, 10, 4, 5])), torch.stack(wanted))


# The option


def option_of(folder, tmp_path, **more):
    plan = settings(**more)
    sources = [saved(folder), saved(folder, "places", "places.npy")]
    items = pictures()
    bank = fill_bank(tmp_path / "bank", sources, Items(items.images, items.labels, None, items.rows), "data")
    _, mixing = begin_mixing(plan, bank, items, items, 0)
    train_mixer("mixer", mixing, N, Plan(epochs=2, batch_size=12, lr=0.01), seed=0, saved=tmp_path / "c.pt")
    save_mixing(mixing, tmp_path / "model.pt")
    return load_fusion(plan, sources, bank, tmp_path / "model.pt"), mixing


@pytest.mark.parametrize("mixer", [{"kind": "transformer", "heads": 2}, {"kind": "mlp"}, {"kind": "concat"}])
def test_embeddings_are_the_mixers(folder, tmp_path, mixer):
    option, mixing = option_of(folder, tmp_path, mixer=mixer)
    items = pictures()
    some = Items(items.images, items.labels, None, np.arange(N)[::-1].copy())
    with torch.no_grad():
        expected = F.normalize(mixing.mixer.cpu().eval()(option.bank.read(some.rows)))
    assert option.embed(some) == pytest.approx(expected.numpy(), abs=1e-5)
    assert option.mflops == 6 + option.mixer.macs / 1e6
    assert option.encoder is None
    assert option.embedding_dim == 8
    assert np.array_equal(option.classifier, mixing.head.weight.detach().numpy())
    assert option.classifier.shape == (6, 8)


def test_pictures_outside_the_bank_are_run_through_the_models_with_the_same_result(folder, tmp_path):
    brought = OnnxSettings(kind="onnx", name="net", file=str(folder / "net.onnx"))
    source, items = of_brought(brought, None, DATA, None), pictures()
    half = Items(ArrayImages(items.images.pixels[:30]), items.labels[:30], None, items.rows[:30])
    bank = fill_bank(tmp_path / "bank", [source], half, "data")
    plan = settings(mixer={"kind": "transformer", "heads": 2})
    _, mixing = begin_mixing(plan, bank, half, half, 0)
    save_mixing(mixing, tmp_path / "model.pt")
    option = load_fusion(plan, [source], bank, tmp_path / "model.pt")
    assert option.embed(items)[:30] == pytest.approx(option.embed(half), abs=1e-6)
    assert option.encoder(to_float(half.images.pixels)).numpy() == pytest.approx(option.embed(half), abs=5e-3)
    embed_views(option, half, Augment(), 1, tmp_path / "views.npy")
    assert np.load(tmp_path / "views.npy")[:, 0] == pytest.approx(option.embed(half), abs=5e-3)


@pytest.fixture
def whitened(folder, tmp_path):
    plan = settings(mixer={"kind": "whitening", "shrinkage": 0.3})
    brought = OnnxSettings(kind="onnx", name="net", file=str(folder / "net.onnx"))
    sources = [saved(folder), saved(folder, "places", "places.npy"), of_brought(brought, None, DATA, None)]
    bank = fill_bank(tmp_path / "bank", sources, pictures(), "data")
    save_whitened(plan, bank, pictures(), tmp_path / "model.pt")
    return load_fusion(plan, sources, bank, tmp_path / "model.pt")


def test_a_whitening_is_of_all_features_side_by_side_each_sources_of_length_one(folder, whitened, network):
    items = pictures()
    features = network(to_float(items.images.pixels)).detach()
    one = [np.load(folder / "saved.npy"), np.load(folder / "places.npy").astype(np.float32), features.numpy()]
    one = [part / np.linalg.norm(part, axis=-1, keepdims=True) for part in one]
    side_by_side = np.concatenate([one[0], one[1].mean(1), one[2]], 1).astype(np.float64)
    weight, bias = whitening(side_by_side, items.labels - 40, 8, 0.3)
    expected = side_by_side @ weight.T + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found, means = whitened.embed(items), [expected[items.labels == label].sum(0) for label in range(40, 46)]
    assert found @ found.T == pytest.approx(expected @ expected.T, abs=3e-3)  # directions have no sign
    assert found @ whitened.classifier.T == pytest.approx(expected @ np.stack(means).T, abs=0.02)
    assert not list(whitened.bank.folder.parent.glob("tmp*"))


def test_a_whitening_of_one_source_is_its_projection(folder, tmp_path):
    plan = {"kind": "whitening", "dim": 8, "shrinkage": 0.3}
    alone = OnnxSettings(kind="onnx", name="net", file=str(folder / "net.onnx"), projection=plan)
    items, model = pictures(), open_model(alone, DATA, None)
    make_projection(alone, alone.projection, model, items, tmp_path / "own", seed=0)
    projected = load_projected(alone, alone.projection, model, tmp_path / "own")
    source = of_brought(alone.model_copy(update={"projection": None}), None, DATA, None)
    bank, mixed = (
        fill_bank(tmp_path / "bank", [source], items, "data"),
        settings(mixer={"kind": "whitening", "shrinkage": 0.3}),
    )
    save_whitened(mixed, bank, items, tmp_path / "model.pt")
    option = load_fusion(mixed, [source], bank, tmp_path / "model.pt")
    found, known = option.embed(items), projected.embed(items)
    assert found @ found.T == pytest.approx(known @ known.T, abs=0.02)  # half precision is all that a bank keeps
    assert option.mflops == pytest.approx(projected.mflops)


def test_a_mixer_of_other_sources_is_refused(folder, tmp_path):
    option, _ = option_of(folder, tmp_path, mixer={"kind": "concat"})
    with pytest.raises(RunError, match=r"model\.pt does not hold a mixer of saved"):
        load_fusion(option.settings, option.sources[:1], option.bank.only(["saved"]), tmp_path / "model.pt")


def test_a_mixer_needs_labels(folder, tmp_path):
    items = pictures()
    bank = fill_bank(tmp_path / "bank", [saved(folder)], items, "data")
    nameless = Items(items.images, np.full(N, UNLABELLED), None, items.rows)
    with pytest.raises(RecipeError, match=r"no picture of data\.pool has one; train it in two_stage"):
        begin_mixing(settings(mixer={"kind": "concat"}), bank, nameless, nameless, 0)


# The recipe


ONNX = "{kind: onnx, name: a, file: f.onnx}"
JOINT = "query.loss={influence: 1, regression: 1}"


def gallery(more="", sources=ONNX):
    return f"gallery={{kind: fusion, name: m, sources: [{sources}]{more}}}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gallery(sources=f"{ONNX}, {ONNX}"), "two sources are called 'a'; give each a name of its own"),
        (gallery(sources=""), "sources is empty; list one model or more"),
        (gallery(", embedding_dim: 6, mixer: {kind: transformer, heads: 4}"), "6 is not divisible by 4 heads"),
        (gallery(", mixer: {kind: laff}"), "unknown kind 'laff'. There are: concat, mlp, transformer, whitening"),
        (gallery(", mixer: {kind: whitening, shrinkage: 0}"), "should be greater than 0"),
        (
            gallery(", mixer: {kind: whitening}, training: two_stage, train: {epochs: 1, batch_size: 8, lr: 0.1}"),
            "a whitening is computed, not trained; leave training and train out",
        ),
        (gallery(", mixer: {kind: mlp, layers: 2}"), "layers: unknown key"),
        (gallery(", momentum: 1"), "should be less than 1"),
        (gallery(", training: two_stage"), "two_stage training needs train, a plan for the mixer"),
        (gallery(", train: {epochs: 1, batch_size: 8, lr: 0.1}"), "jointly it learns by the plan of query.supernet"),
        (gallery(", local: {b: {tokens: 4}}"), "local: unknown source 'b'. There are: a."),
        (gallery(", local: {a: {tokens: 4}}"), "source 'a' of kind onnx must name output"),
        (gallery(", local: {a: {tokens: 5, by: grid, output: x}}"), "a square number of tokens, such as 4 or 9"),
        (
            gallery(", local: {a: {tokens: 4}}", "{kind: timm, name: a, model: x}"),
            "within reach in kinds single and onnx, not timm",
        ),
        (
            gallery(sources=ONNX.replace("}", ", projection: {kind: whitening, dim: 4}}")),
            "source 'a' has a projection; leave it out",
        ),
        (gallery(sources="{kind: fusion, name: a, sources: []}"), "unknown kind 'fusion'. There are: "),
    ],
)  # fmt: skip
def test_mistakes_in_the_recipe(content, message):
    with pytest.raises(RecipeError, match=r"has \d mistakes?:") as caught:
        load_recipe("quickstart", ["galleries=[]", content, JOINT])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_losses_that_keep_a_gallery_cannot_learn_beside_it():
    with pytest.raises(RecipeError, match=r"query\.loss\.csd needs a frozen gallery, and this one learns jointly"):
        load_recipe("quickstart", ["galleries=[]", gallery()])
    plan = ", training: two_stage, train: {epochs: 1, batch_size: 8, lr: 0.1}"
    assert load_recipe("quickstart", ["galleries=[]", gallery(plan)]).space().embedding_dim == 128


def test_a_recipe_reads_what_it_writes():
    own = gallery(", embedding_dim: 32, local: {a: {tokens: 4, output: x}}")
    recipe = load_recipe("quickstart", ["galleries=[]", own, JOINT])
    assert type(recipe).model_validate(recipe.model_dump(mode="json", by_alias=True)) == recipe
    assert recipe.space().embedding_dim == 32
