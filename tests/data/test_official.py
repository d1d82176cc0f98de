"""Readers of published layouts: what they give to select on, what is cropped, and every kind of damage."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from cmpnas.data.images import FileImages
from cmpnas.data.settings import AnyData, Range
from cmpnas.errors import DataError
from tests.official import write_deepfashion2, write_gldv2, write_identities

ALL = {"train": {}, "search": {"query": {}, "gallery": {}}, "test": {"query": {}, "gallery": {}}}


def table(root, reader, **changes):
    settings = TypeAdapter(AnyData).validate_python({"reader": reader, "size": 16, **ALL, **changes})
    return import_module(f"cmpnas.data.readers.{reader}").read(settings, root)


@pytest.fixture
def clothes(tmp_path):
    write_deepfashion2(tmp_path)
    return tmp_path


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_deepfashion2_items(clothes):
    items = table(clothes, "deepfashion2")
    assert len(items.images) == 10 * (2 * 2 + 2 * 3) + 3 * (2 * 2 + 2 * 3)
    first = {name: values[:2].tolist() for name, values in items.columns.items()}
    assert first == {
        "split": ["train"] * 2, "image": ["000001"] * 2, "source": ["user"] * 2, "item": [1, 2], "pair_id": [1, 1],
        "style": [1, 2], "category_id": [9, 9], "label": ["train 1 1", "train 1 2"],
    }  # fmt: skip
    shop = items.select({"split": "validation", "source": "shop", "pair_id": 3}, "a shop")
    assert items.columns["label"][shop].tolist() == [f"validation 3 {style}" for style in (1, 2, 0, 1, 2, 0)]
    assert len(items.select({"style": Range.model_validate({"from": 1})}, "matching")) == 13 * 4 * 2


def test_deepfashion2_pictures_are_their_boxes(clothes):
    """Red where the box is, blue elsewhere."""
    edge = np.zeros((200, 320, 3), np.uint8)
    edge[..., 2] = 255
    edge[40:168, 32:96] = [255, 0, 0]
    Image.fromarray(edge).save(clothes / "train" / "image" / "000001.jpg", quality=100, subsampling=0)
    path = clothes / "train" / "annos" / "000001.json"
    item = json.loads(path.read_text())["item1"]
    edit(path, item1=item | {"bounding_box": [32, 40, 96, 168]}, item2=item | {"bounding_box": [96, 0, 400, 200]})
    inside, outside = table(clothes, "deepfashion2", size=32).images.read(np.array([0, 1])).float().mean((2, 3))
    assert inside.tolist() == pytest.approx([255, 0, 0], abs=8)
    assert outside.tolist() == pytest.approx([0, 0, 255], abs=8)  # as much of it as is in the picture


@pytest.mark.parametrize(
    ("size", "box", "cells"),
    [(16, [120, 90, 700, 640], 4), (100, [120, 90, 700, 640], 4), (80, [400, 300, 480, 390], 200)],
)
def test_a_box_is_the_crop_whatever_size_it_is_decoded_at(tmp_path, size, box, cells):
    """Decoding a large JPEG small must neither move a box nor lose what is in a small one."""
    noise = np.random.default_rng(0).integers(256, size=(cells * 3 // 4, cells, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1001, 777)).save(tmp_path / "a.jpg", quality=95)
    read = FileImages(tmp_path, np.array(["a.jpg"]), size, np.array([box])).read(np.array([0]))[0]
    with Image.open(tmp_path / "a.jpg") as picture:
        crop = picture.convert("RGB").crop(box).resize((size, size), Image.Resampling.BILINEAR)
    difference = np.abs(read.permute(1, 2, 0).numpy().astype(int) - np.asarray(crop))
    assert difference.mean() < 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"source": "store"}, r"000002\.json: source: Input should be 'user' or 'shop'"),
        ({"pair_id": None}, r"000002\.json: pair_id"),
        ({"item1": {"style": 1, "category_id": 2}}, r"item1\.bounding_box: Field required"),
        ({"item1": {"style": -1, "category_id": 2, "bounding_box": [0, 0, 5, 5]}}, r"item1\.style"),
        ({"item1": {"style": 1, "category_id": 2, "bounding_box": [5, 0, 5, 9]}}, r"item1: bounding_box .* is no left"),
        ({"item_one": {"style": 1, "category_id": 2, "bounding_box": [0, 0, 5, 9]}}, "unknown key 'item_one'"),
    ],
)
def test_damaged_annotations_are_named(clothes, damage, message):
    edit(clothes / "train" / "annos" / "000002.json", **damage)
    with pytest.raises(DataError, match=message) as caught:
        table(clothes, "deepfashion2")
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files_of_deepfashion2(clothes):
    with pytest.raises(DataError, match=r"test/annos cannot be read \(No such file"):
        table(clothes, "deepfashion2", splits=["test"])
    (clothes / "train" / "annos" / "000003.json").write_text('{"source": "us')
    with pytest.raises(DataError, match=r"000003\.json: the file: Invalid JSON"):
        table(clothes, "deepfashion2")
    (clothes / "validation" / "image" / "000002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 12 annotated pictures are missing, first .*000002\.jpg"):
        table(clothes, "deepfashion2", splits=["validation"])
    for file in (clothes / "validation" / "annos").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="has no annotated item in validation"):
        table(clothes, "deepfashion2", splits=["validation"])


def test_a_box_outside_its_picture_is_named(clothes):
    path = clothes / "train" / "annos" / "000001.json"
    edit(path, item1={"style": 1, "category_id": 2, "bounding_box": [24, 0, 40, 20]})
    with pytest.raises(DataError, match=r"000001\.jpg is 24 x 20 px; nothing of box \[24.*\] is in it"):
        table(clothes, "deepfashion2").images.read(np.array([0]))


def test_identities(tmp_path):
    write_identities(tmp_path, n=3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "n000001" / "notes.txt").write_text("not a face")
    for hidden in (".thumbnails", "__MACOSX"):
        (tmp_path / hidden).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / hidden / "1.png")
    faces = table(tmp_path, "identities")
    assert faces.columns["label"].tolist() == ["n000000"] * 6 + ["n000001"] + ["n000002"]
    assert faces.columns["number"].tolist() == [0] * 6 + [1, 2]
    assert faces.columns["picture"].tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert faces.images.read(np.array([7])).shape == (1, 3, 16, 16)


def test_no_identities(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no folders of \.jpg"):
        table(tmp_path, "identities")


def test_both_lists_of_gldv2_name_the_same_pictures(tmp_path):
    ids = write_gldv2(tmp_path)
    clean, plain = table(tmp_path, "gldv2"), table(tmp_path, "gldv2", table="train.csv")
    assert clean.columns["id"].tolist() == [name for names in ids.values() for name in names]
    assert clean.columns["picture"].tolist() == list(range(5)) * 12
    rows = [set(zip(*(t.columns[k].tolist() for k in ("id", "label", "picture")), strict=True)) for t in (clean, plain)]
    assert rows[0] == rows[1]
    assert plain.columns["label"][:3].tolist() == [0, 1, 2]
    pictures = [t.images.read(np.flatnonzero(t.columns["id"] == ids[100][3])) for t in (clean, plain)]
    assert (pictures[0] == pictures[1]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("landmark_id,pictures\n1,a\n", "neither a column 'images' nor 'id'"),
        ("id,images\n1,a\n", "has no column 'landmark_id'; its header is id, images"),
        ("landmark_id,images\n1,abc\n", "names picture 'abc'; ids are 16 hexadecimal digits"),
        ("landmark_id,images\nEiffel,0123456789abcdef\n", "landmark_id that is no whole number"),
        ("landmark_id,images\n1,0123456789abcdef\n", r"1 of 1 pictures are missing, first .*0/1/2/0123456789abcdef"),
        ("landmark_id,images\n1\n", "line 2: 1 fields where the header has 2"),
        ("landmark_id,images\n", "lists no pictures"),
        ("landmark_id,images\n1,\n", "lists no pictures"),
    ],
)
def test_wrong_lists_of_gldv2_are_named(tmp_path, content, message):
    (tmp_path / "train_clean.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        table(tmp_path, "gldv2")
