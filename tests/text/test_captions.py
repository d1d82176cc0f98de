"""Captions of the readers: templates, splits, files of published sets, and what is wrong with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from cmpnas.data.settings import AnyData
from cmpnas.errors import DataError
from cmpnas.recipe import load_any_recipe
from cmpnas.text.captions import Captioned, load_captioned
from cmpnas.text.karpathy import _read, load_karpathy
from cmpnas.text.settings import CaptionFile, CaptionSettings, KarpathySettings

SMALL = (
    "data.size=16", "data.train_identities=40", "data.search_identities=8", "data.test_identities=8",
    "data.train_shots=[2, 0]", "data.other_shots=[4, 0]",
)  # fmt: skip


def shop(*overrides: str):
    recipe = load_any_recipe("shop_text", [*SMALL, *overrides])
    return load_captioned(recipe.data, recipe.captions)


def test_captions_of_shop_describe_their_own_pictures():
    splits = shop()
    assert len(splits.train) == 80
    assert len(splits.search) == len(splits.test) == 32
    for pairs in (splits.train, splits.search):
        by_label = dict(zip(pairs.caption_labels.tolist(), pairs.captions, strict=True))
        assert len(by_label) == len(pairs.captions)  # one a label
        assert [by_label[label] for label in pairs.labels.tolist()] == pairs.names
    few = splits.search.asking(3)
    assert len(few.captions) == 3
    assert len(few) == 32


def test_other_captions_are_other_data():
    """Of the search split too: what is recorded was scored on them."""
    train = "captions.train=['{caption}']"
    others = ["captions.query='{caption} please'"], ["captions.train=['{caption} please']"]
    kinds = [shop(train), shop(train), *(shop(train, *more) for more in others)]
    prints = [splits.fingerprint for splits in kinds]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_picture_is_trained_with_its_own_captions_another_one_a_view():
    labels = np.array([0, 0, 1, 2])
    said = [f"{label}{kind}" for label in (2, 0, 1) for kind in "abc"]
    pairs = Captioned(None, None, labels, said, np.array([int(text[0]) for text in said]), ["x"] * 4)
    picked = [pairs.pick(torch.arange(4), view) for view in range(40)]
    texts = np.array([[said[row] for row in rows] for rows in picked])
    assert all(text[0] == str(label) for row in texts for text, label in zip(row, labels, strict=True))
    assert all(
        set(column) == {f"{label}{kind}" for kind in "abc"} for column, label in zip(texts.T, labels, strict=True)
    )
    assert (pairs.pick(torch.tensor([2]), 7) == picked[7][2]).all()


def test_splits_of_emoji_are_of_other_emoji(data_root):
    recipe = load_any_recipe("emoji_text")
    splits = load_captioned(recipe.data, recipe.captions, str(data_root))
    assert [len(splits.train), len(splits.search), len(splits.test)] == [2428, 916, 2126]
    assert not set(splits.train.labels) & set(splits.search.labels) | set(splits.search.labels) & set(
        splits.test.labels
    )
    assert len(splits.test.captions) == len(set(splits.test.labels)) == 633
    assert "pisces, purple-square sign zodiac astrology fish" in {
        *splits.train.captions, *splits.search.captions, *splits.test.captions
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.search={query: {split: test}, gallery: {split: search}}"],
            r"items are in both search and test \(first: item 112\); the splits must not share any",
        ),
        (
            ["data.test={query: {index: {from: 112, below: 113}}, gallery: {index: {from: 130}}}"],
            "1 captions of the test split describe no picture of it; change data.test",
        ),
        (["captions.query='{captoin}'"], "unknown column 'captoin'. Did you mean 'caption'"),
        (["captions.query=shirt"], "names no column"),
        (
            ["data.search={query: {index: {from: 80, below: 81}}, gallery: {index: {from: 90, below: 112}}}"],
            "captions describe no picture of their split",
        ),
        (["data.search={query: {split: test}, gallery: {split: test}}"], "are in both search and test"),
    ],
)
def test_what_is_wrong_with_captions_is_told(overrides, message):
    with pytest.raises(DataError, match=message):
        shop(*overrides)


def test_empty_captions_and_pictures_without_any_are_told():
    with pytest.raises(DataError, match="1 of 2 captions are empty, the first number 1"):
        Captioned(None, None, np.arange(2), ["a", " "], np.arange(2), ["x", "y"])
    pairs = Captioned(None, None, np.arange(2), ["a"], np.array([0]), ["x", "y"])
    with pytest.raises(DataError, match="picture 'y' has no caption"):
        pairs.pick(torch.tensor([1]), 0)


@pytest.mark.parametrize(("row", "part"), [(1, "train"), (5, "search query"), (9, "test query")])
def test_an_empty_caption_is_known_of_every_split_before_anything_is_trained(row, part, tmp_path):
    said = np.array([f"thing {label}" for label in range(12)])
    said[row] = " "
    arrays = {"images": np.zeros((12, 16, 16, 3), np.uint8), "labels": np.arange(12), "part": np.arange(12) // 4}
    np.savez(tmp_path / "set.npz", **arrays, said=said)
    tasks = {name: {side: {"part": n} for side in ("query", "gallery")} for n, name in ((1, "search"), (2, "test"))}
    settings = {"reader": "npz", "size": 16, "file": "set.npz", "images": "images", "label": "labels"}
    data = TypeAdapter(AnyData).validate_python(settings | {"train": {"part": 0}} | tasks)
    message = rf"1 of 4 items of {part} have an empty caption by '{{said}}', the first is item {row}; fill it in"
    with pytest.raises(DataError, match=message):
        load_captioned(data, CaptionSettings(query="{said}"), str(tmp_path))


@pytest.fixture
def published(tmp_path):
    """A caption set in the official layout: a Karpathy JSON, five lines an image, regions once or five times."""
    images = [
        {"filename": f"{split}{n}.jpg", "split": split, "sentences": [{"raw": f"{split} {n} {c}"} for c in range(5)]}
        for split, count in (("train", 6), ("val", 3), ("test", 4))
        for n in range(count)
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        regions = np.arange(count, dtype=np.float32)[:, None, None] + np.zeros((count, 36, 8), np.float32)
        np.save(tmp_path / f"{split}.npy", regions)
        np.save(tmp_path / f"{split}5.npy", regions.repeat(5, 0))
        lines = [f"{split} {n} {c}" for n in range(count) for c in range(5)]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def files(captions: str, regions: str) -> KarpathySettings:
    split = {
        name: {"captions": captions.format(own), "regions": regions.format(own), "split": own}
        for name, own in (("train", "train"), ("search", "val"), ("test", "test"))
    }
    return KarpathySettings(reader="karpathy", **split)


@pytest.mark.parametrize("captions", ["dataset.json", "{}.txt"])
@pytest.mark.parametrize("regions", ["{}.npy", "{}5.npy"])
def test_official_files_pair_captions_with_regions(published, captions, regions):
    splits = load_karpathy(files(captions, regions), str(published))
    for pairs, split, count in ((splits.train, "train", 6), (splits.search, "val", 3), (splits.test, "test", 4)):
        assert pairs.regions.shape == (count, 36, 8)
        assert len(pairs.captions) == 5 * count
        for text, label in zip(pairs.captions, pairs.caption_labels, strict=True):
            assert text.startswith(f"{split} {int(pairs.regions[label, 0, 0])} ")


def test_files_that_do_not_fit_are_told(published):
    np.save(published / "train.npy", np.zeros((7, 36, 8), np.float32))
    with pytest.raises(DataError, match="regions of 7 images, the captions are of 6; captions without images"):
        load_karpathy(files("dataset.json", "{}.npy"), str(published))
    settings = files("dataset.json", "{}.npy")
    lacking = settings.model_copy(update={"test": settings.test.model_copy(update={"regions": "nowhere.npy"})})
    with pytest.raises(DataError, match=r"nowhere.npy does not exist"):  # at once, though it is opened in the end
        load_karpathy(lacking, str(published))
    np.save(published / "train.npy", np.zeros((6, 8), np.float32))
    with pytest.raises(DataError, match=r"region features are floats \(N, R, C\)"):
        load_karpathy(files("dataset.json", "{}.npy"), str(published))
    content = json.loads((published / "dataset.json").read_text())
    content["images"].append(content["images"][0])
    (published / "twice.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"names 'train0.jpg' more than once"):
        load_karpathy(files("twice.json", "{}.npy"), str(published))
    (published / "train.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="has 2 lines; it must have five captions of each image"):
        load_karpathy(files("{}.txt", "{}5.npy"), str(published))


def test_captions_of_coco_with_generated_regions(data_root, tmp_path):
    """The 5,000 images and first 25,000 captions of COCO's validation set, read where they are."""
    regions = np.lib.format.open_memmap(tmp_path / "regions.npy", "w+", np.float16, (5000, 2, 4))
    regions[:] = np.arange(5000)[:, None, None] % 2048
    regions.flush()
    file = {"captions": str(data_root / "coco_captions" / "captions_val2017.json.gz"), "regions": "regions.npy"}
    pairs = _read(CaptionFile(**file), tmp_path)
    assert (len(pairs), len(pairs.captions)) == (5000, 25000)
    assert (np.bincount(pairs.caption_labels) == 5).all()
    assert isinstance(pairs.regions, np.memmap)


def test_templates_must_be_given_where_data_bring_no_captions():
    with pytest.raises(Exception, match=r"captions.query: a template"):
        load_any_recipe("shop_text", ["captions={max_tokens: 12}"])
    assert CaptionSettings().query == ""
