"""Every format from files written here, and every kind of damage."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from cmpnas.data import load_splits
from cmpnas.data.items import Items, Steps, batches
from cmpnas.data.settings import AnyData
from cmpnas.errors import DataError

PARTS = {
    "train": {"part": 0},
    "search": {"query": {"part": 1, "role": "query"}, "gallery": {"part": 1, "role": "gallery"}},
    "test": {"query": {"part": 2, "role": "query"}, "gallery": {"part": 2, "role": "gallery"}},
}
LABELS = np.repeat(np.arange(6), 4)
PART = LABELS // 2
ROLE = np.tile(["query", "query", "gallery", "gallery"], 6)
PIXELS = np.random.default_rng(0).integers(256, size=(24, 20, 16, 3), dtype=np.uint8)


def load(settings: dict, root: Path):
    return load_splits(TypeAdapter(AnyData).validate_python({"size": 16} | settings), str(root))


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def encoded(kind: str = "PNG") -> tuple[np.ndarray, np.ndarray]:
    strings = []
    for pixels in PIXELS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        strings.append(buffer.getvalue())
    return np.frombuffer(b"".join(strings), np.uint8), np.cumsum([0, *map(len, strings)])


@pytest.fixture
def npz(tmp_path):
    arrays = {"images": PIXELS, "labels": LABELS, "part": PART, "role": ROLE, "classes": np.arange(6) // 2}
    np.savez(tmp_path / "set.npz", **arrays, one=np.array(3))
    return {"reader": "npz", "file": "set.npz", "images": "images", "label": "labels", **PARTS}


@pytest.fixture
def idx(tmp_path):
    grey = PIXELS[..., 0]
    write_idx(tmp_path / "a.gz", grey)
    write_idx(tmp_path / "b.gz", LABELS)
    ranges = {
        "train": {"index": {"below": 8}},
        "search": {"query": {"index": {"from": 8, "below": 12}}, "gallery": {"index": {"from": 12, "below": 16}}},
        "test": {"query": {"index": [16, 17]}, "gallery": {"index": {"from": 18}}},
    }
    return {"reader": "idx", "files": {"all": ["a.gz", "b.gz"]}, **ranges}


@pytest.fixture
def folder(tmp_path):
    with (tmp_path / "list.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label", "part", "role", "camera"])
        for i, pixels in enumerate(PIXELS):
            Image.fromarray(pixels).save(tmp_path / f"{i}.png")
            lines.writerow([f"{i}.png", f"thing {LABELS[i]}", PART[i], ROLE[i], i % 2])
    return {"reader": "folder", "table": "list.csv", "image": "path", "source": "camera", **PARTS}


def test_npz_arrays(npz, tmp_path):
    splits = load(npz, tmp_path)
    assert [len(splits.train), len(splits.search.query), len(splits.test.gallery)] == [8, 4, 4]
    assert splits.search.query.labels.tolist() == [2, 2, 3, 3]
    assert splits.search.query.rows.tolist() == [8, 9, 12, 13]
    assert splits.train.images.read(np.array([0])).shape == (1, 3, 16, 16)
    assert splits.total == 24


def test_npz_per_class_columns(npz, tmp_path):
    splits = load(npz | {"per_class": ["classes"], "train": {"classes": 0}}, tmp_path)
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (LABELS - 1, np.arange(99), "'labels' is int64.* or has negative ones; write the column for each picture"),
        (LABELS.astype(str), np.arange(99), "is looked up by class numbers, and 'labels' is <U"),
        (LABELS.astype(float), np.arange(99), "is looked up by class numbers, and 'labels' is float64"),
        (LABELS, np.array(3), r"array 'classes' is \(\), and labels go up to 5"),
        (LABELS, np.arange(3), r"array 'classes' is \(3,\), and labels go up to 5"),
    ],
)
def test_npz_per_class_columns_need_class_numbers(npz, tmp_path, labels, classes, message):
    arrays = dict(np.load(tmp_path / "set.npz")) | {"labels": labels, "classes": classes}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(npz | {"per_class": ["classes"]}, tmp_path)


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16])
def test_npz_class_numbers_of_any_type(npz, tmp_path, kind):
    arrays = dict(np.load(tmp_path / "set.npz"))
    np.savez(tmp_path / "set.npz", **arrays | {"labels": LABELS.astype(kind)})
    assert (
        load(npz | {"per_class": ["classes"], "train": {"classes": 0}}, tmp_path).train.labels.tolist()
        == [0] * 4 + [1] * 4
    )
    np.savez(tmp_path / "set.npz", **arrays | {"labels": LABELS.astype(kind), "classes": np.arange(3)})
    with pytest.raises(DataError, match=r"array 'classes' is \(3,\), and labels go up to 5"):
        load(npz | {"per_class": ["classes"]}, tmp_path)


def test_npz_bytes_are_text(npz, tmp_path):
    arrays = dict(np.load(tmp_path / "set.npz"))
    np.savez(tmp_path / "set.npz", **arrays | {"part": arrays["part"].astype("S")})
    assert load(npz, tmp_path).fingerprint == load(npz, tmp_path).fingerprint
    assert len(load(npz, tmp_path).train) == 8


class Broken:
    """Pictures that cannot be read."""

    def __len__(self):
        return 8

    def read(self, indices):
        raise DataError("3.png cannot be decoded (it is none); replace or remove it.")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_one_line_whoever_reads_it(workers):
    items = Items(Broken(), np.zeros(8, np.int64), None, np.arange(8))
    with pytest.raises(DataError, match=r"^3\.png cannot be decoded \(it is none\); replace or remove it\.$"):
        list(batches(items, Steps(8, 4, 0, 0, 2), workers))


def test_pictures_that_would_come_out_wrong_are_named(folder, tmp_path):
    Image.fromarray(np.full((9, 9), 3000, np.uint16)).save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"2\.png holds I;16 numbers, not bytes; make an 8-bit picture of it"):
        load(folder, tmp_path).train.images.read(np.arange(4))


def test_npz_encoded_pictures_equal_arrays(npz, tmp_path):
    blob, offsets = encoded()
    np.savez(tmp_path / "enc.npz", jpeg=blob, offsets=offsets, labels=LABELS, part=PART, role=ROLE)
    plain = load(npz | {"size": 16}, tmp_path).train
    coded = load(npz | {"file": "enc.npz", "images": "jpeg", "offsets": "offsets"}, tmp_path).train
    first, second = (items.images.read(np.arange(8)).int() for items in (plain, coded))
    assert (first - second).abs().max() <= 2  # two libraries resize the same picture


def test_idx_pictures_and_labels(idx, tmp_path):
    splits = load(idx, tmp_path)
    assert splits.train.labels.tolist() == LABELS[:8].tolist()
    assert len(splits.test.gallery) == 6


def test_index_counts_within_each_pair_of_files(idx, tmp_path):
    files = {"files": {"one": ["a.gz", "b.gz"], "two": ["a.gz", "b.gz"]}}
    parts = {
        "train": {"file": "one", "index": {"below": 8}},
        "search": {"query": {"file": "one", "index": [8, 12]}, "gallery": {"file": "one", "index": [9, 13]}},
        "test": {"query": {"file": "two", "index": {"below": 10}}, "gallery": {"file": "two", "index": {"from": 10}}},
    }
    splits = load(idx | files | parts, tmp_path)
    assert len(splits.test.query) == 10
    assert len(splits.test.gallery) == 14
    assert splits.test.query.labels.tolist() == LABELS[:10].tolist()


def test_the_pool_hides_labels_that_are_not_of_train(npz, tmp_path):
    parts = {
        "train": {"labels": [0, 1]}, "pool": {"labels": [1, 2], "role": "query"},
        "search": {"query": {"labels": 3, "role": "query"}, "gallery": {"labels": 3, "role": "gallery"}},
    }  # fmt: skip
    splits = load(npz | parts, tmp_path)
    assert splits.pool.labels.tolist() == [1, 1, -1, -1]


def test_a_query_must_not_find_itself(npz, tmp_path):
    both = {"query": {"part": 1}, "gallery": {"part": 1}}
    with pytest.raises(DataError, match="8 items are both query and gallery of search"):
        load(npz | {"search": both}, tmp_path)
    with pytest.raises(DataError, match="8 items are both query and gallery of test"):
        load(npz | {"test": {side: {"part": 2} for side in both}}, tmp_path)
    assert load(npz | {"search": both, "source": "role"}, tmp_path).search.query.sources is not None


@pytest.mark.parametrize("learned", ["train", "pool"])
@pytest.mark.parametrize("task", ["search", "test"])
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_nothing_that_is_asked_or_found_is_learned(npz, tmp_path, learned, task, side):
    own, role = PARTS[task]["query"]["part"], 0 if side == "query" else 2
    parts = PARTS | {learned: {"labels": [0, 1, 2 * own]}}  # of one class of the split
    parts[task] = {"query": {"labels": 2 * own + 1}, "gallery": {"labels": 2 * own + 1}}
    parts[task][side] = {"labels": 2 * own, "index": 8 * own + role}
    other = "gallery" if side == "query" else "query"
    parts[task][other] = {"labels": 2 * own + 1}
    with pytest.raises(DataError, match=f"1 items are in both train or pool and {task}"):
        load(npz | parts, tmp_path)


def test_the_test_split_stays_shut(folder, tmp_path):
    """A damaged test picture is nobody's business before the test split is opened."""
    (tmp_path / "23.png").write_bytes(b"nope")
    splits = load(folder, tmp_path)
    with pytest.raises(DataError, match=r"23\.png"):
        _ = splits.test


def test_every_split_is_in_the_fingerprint(npz, tmp_path):
    known = load(npz, tmp_path).fingerprint
    assert known == load(npz, tmp_path).fingerprint
    assert known != load(npz | {"test": npz["test"] | {"query": {"part": 2, "index": 16}}}, tmp_path).fingerprint
    columns = {"part": PART, "role": ROLE}
    for row, changes in ((0, True), (8, True), (10, True), (20, False)):  # the test's pictures are not looked at
        pixels = PIXELS.copy()
        pixels[row] = 255 - pixels[row]
        np.savez(tmp_path / "set.npz", images=pixels, labels=LABELS, **columns)
        assert (known != load(npz, tmp_path).fingerprint) == changes
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=np.where(np.arange(24) == 12, 5, LABELS), **columns)
    assert known != load(npz, tmp_path).fingerprint
    found = []
    for last in (22, 23):  # one picture more is of the last source
        sources = np.where(np.arange(24) < last, 0, 1)
        np.savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS, source=sources, **columns)
        found.append(load(npz | {"source": "source"}, tmp_path).fingerprint)
    assert len({known, *found}) == 3


def test_calibration_samples_are_fair_however_items_are_sorted(npz, tmp_path):
    items = load(npz, tmp_path).train
    (batch,) = items.sample_batches(8, 8)
    assert sorted(batch.sum((1, 2, 3)).tolist()) == sorted(
        torch.cat(list(items.float_batches(3))).sum((1, 2, 3)).tolist()
    )
    first = next(items.sample_batches(4, 8))
    assert not torch.equal(first, next(items.float_batches(4)))
    assert [len(batch) for batch in items.sample_batches(7, 8)] == [4, 4]  # not 7 and 1, whose variance is nothing


def test_folder_and_sources(folder, tmp_path):
    splits = load(folder, tmp_path)
    assert splits.search.query.sources.tolist() == [0, 1, 0, 1]
    assert len(np.unique(splits.search.query.labels)) == 2


@pytest.mark.parametrize("size", [16, 96])
def test_pictures_of_phones_stand_upright(folder, tmp_path, size):
    """A phone stores what its sensor saw, and how to turn it."""
    gradient = np.linspace(0, 255, 64 * 48 * 3).reshape(64, 48, 3).astype(np.uint8)
    upright = Image.fromarray(gradient)
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # shown turned by 270 degrees
    upright.save(tmp_path / "0.png")
    turned.save(tmp_path / "1.png", exif=orientation)
    turned.save(tmp_path / "2.png")
    read = load(folder | {"size": size}, tmp_path).train.images.read(np.arange(3)).float()
    assert (read[0] - read[1]).abs().max() <= 1
    assert (read[0] - read[2]).abs().mean() > 20


def test_large_jpegs_are_resized_as_promised(folder, tmp_path):
    """A decoder that halves until nothing is left to resize gives edges of its own."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).resize((480, 360), Image.Resampling.BICUBIC)
    sharp = np.asarray(coarse).copy()
    sharp[::7] = 255 - sharp[::7]
    Image.fromarray(sharp).save(tmp_path / "0.png", "JPEG", quality=95)
    for size in (15, 30, 60, 110):
        read = load(folder | {"size": size}, tmp_path).train.images.read(np.array([0]))[0].permute(1, 2, 0).int()
        with Image.open(tmp_path / "0.png") as picture:
            promised = np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(read.numpy() - promised).mean() < 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(folder, tmp_path, mode):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[..., 1] = 255  # the editor left green behind
    pixels[5:15, 5:15] = (200, 0, 0, 255)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "0.png")
    picture = load(folder | {"size": 20}, tmp_path).train.images.read(np.array([0]))[0]
    assert (picture[:, 0, 0] >= 254).all()
    assert not (picture[:, 10, 10] >= 254).all()


def test_missing_labels_are_no_class(folder, npz, tmp_path):
    lines = (tmp_path / "list.csv").read_text().splitlines()
    lines[10] = lines[10].replace(f"thing {LABELS[9]}", "")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"item 9 of search query has no 'label'; fill it in, or leave the item out"):
        load(folder, tmp_path)
    arrays = dict(np.load(tmp_path / "set.npz"))
    np.savez(tmp_path / "set.npz", **arrays | {"labels": np.where(LABELS == 0, np.nan, LABELS)})
    with pytest.raises(DataError, match=r"item 0 of train has no 'labels'"):
        load(npz, tmp_path)
    some = load(npz | {"train": {"part": 0, "labels": {"from": 0}}, "pool": {"part": 0}}, tmp_path)
    assert (some.train.rows.tolist(), len(some.pool)) == ([4, 5, 6, 7], 8)  # no number is within no range


def test_unknown_sources_are_not_one_source(folder, tmp_path):
    text = (tmp_path / "list.csv").read_text().splitlines()
    (tmp_path / "list.csv").write_text("\n".join([text[0], *(line.rsplit(",", 1)[0] + "," for line in text[1:])]))
    own, others = load(folder, tmp_path).search.own_sources
    assert not np.isin(own, others).any()
    assert len(np.unique(own)) == len(own)


@pytest.mark.parametrize(("row", "as_row", "message"), [
    (17, 1, "items are in both train or pool and test"), (10, 8, "items are both query and gallery of search"),
])  # fmt: skip
def test_a_picture_listed_twice_is_one(folder, tmp_path, row, as_row, message):
    text = (tmp_path / "list.csv").read_text()
    for again in (f"./{as_row}.png", tmp_path / f"{as_row}.png"):
        (tmp_path / "list.csv").write_text(text.replace(f"\n{row}.png", f"\n{again}"))
        with pytest.raises(DataError, match=message):
            load({key: value for key, value in folder.items() if key != "source"}, tmp_path)


def test_what_picks_learn_from_besides_is_told_by_pictures_not_rows(folder, tmp_path):
    """Rows 24 to 29 list pictures of the pool, search's queries (twice), test's queries, its gallery, and a new one."""
    assert load(folder, tmp_path).beside is None
    shutil.copy(tmp_path / "23.png", tmp_path / "24.png")
    with (tmp_path / "list.csv").open("a", newline="") as file:
        csv.writer(file).writerows([f"./{i}.png", "", 9, "", ""] for i in (1, 8, 8, 17, 19, 24))

    def beside(*rows):
        splits = load(folder | {"finish": {"part": 9, "index": list(rows)}}, tmp_path)
        assert splits.search_is_learned == bool({25, 26} & {*rows})
        assert splits.index_is_learned("test") == (28 in rows)
        assert not splits.index_is_learned("search")
        return splits.beside

    found = beside(24, 25, 26, 29)
    assert (found.items.rows.tolist(), found.items.labels.tolist()) == ([25, 29], [-1, -1])
    assert found.parts == {"search query"}
    assert not beside(29).parts
    assert beside(28, 29).parts == {"test gallery"}
    assert len({beside(*rows).fingerprint for rows in ([25], [29], [25, 29])}) == 3
    before = beside(29).fingerprint
    shutil.copy(tmp_path / "3.png", tmp_path / "24.png")
    assert beside(29).fingerprint != before
    with pytest.raises(DataError, match=r"1 items are in both finish and test\.query \(first: item 17\)"):
        beside(27, 29)
    with pytest.raises(DataError, match=r"all items of data\.finish are in the pool"):
        beside(24)


def test_a_picture_of_two_sources_would_find_itself(folder, tmp_path):
    text = (tmp_path / "list.csv").read_text()
    line = next(line for line in text.splitlines() if line.startswith("10.png"))
    for row, camera in ((8, 0), (9, 1)):  # one of the query's own source is ignored, of another's found
        assert f"\n{row}.png,thing 2,1,query,{camera}\n" in text
        (tmp_path / "list.csv").write_text(text.replace(line, line.replace("10.png", f"{row}.png")))
        if camera == 0:
            assert len(load(folder, tmp_path).search.query) == 4
        else:
            with pytest.raises(DataError, match=r"1 items are both query .* \(first: item 9\); .* one source"):
                load(folder, tmp_path)


def test_columns_that_nobody_asks_for_take_no_room(folder, tmp_path):
    import tracemalloc

    lines = (tmp_path / "list.csv").read_text().splitlines()
    told = [f"{line},{'description' if n == 0 else 'x' * (500_000 if n == 3 else 9)}" for n, line in enumerate(lines)]
    (tmp_path / "list.csv").write_text("\n".join(told))
    tracemalloc.start()
    load(folder, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 24 * 500_000 * 4 / 8
    tracemalloc.stop()


@pytest.mark.parametrize("keep", [0, 3, 20, 100])
def test_truncated_idx(idx, tmp_path, keep):
    whole = (tmp_path / "a.gz").read_bytes()
    (tmp_path / "a.gz").write_bytes(whole[:keep])
    with pytest.raises(DataError, match=r"a\.gz (is not an idx file|is damaged or truncated)"):
        load(idx, tmp_path)


def test_idx_shorter_than_its_header(idx, tmp_path):
    raw = gzip.decompress((tmp_path / "a.gz").read_bytes())
    (tmp_path / "a.gz").write_bytes(raw[:-7])
    with pytest.raises(DataError, match=r"truncated: \d+ bytes where its header says \d+"):
        load(idx, tmp_path)


@pytest.mark.parametrize("wrong", [LABELS.reshape(-1, 2), np.array(3, np.uint8), PIXELS[..., 0]])
def test_labels_that_are_not_one_a_picture(idx, tmp_path, wrong):
    write_idx(tmp_path / "b.gz", wrong)
    with pytest.raises(DataError, match=r"b\.gz holds .*, not one whole number a picture"):
        load(idx, tmp_path)


def test_labels_of_another_length(idx, npz, tmp_path):
    write_idx(tmp_path / "b.gz", LABELS[:-1])
    with pytest.raises(DataError, match=r"24 images but .* 23 labels"):
        load(idx, tmp_path)
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS[:-1], part=PART, role=ROLE)
    with pytest.raises(DataError, match="24 images but 23 'labels'"):
        load(npz, tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"a,b\n1,2\n"])
def test_damaged_npz(npz, tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as npz") as caught:
        load(npz, tmp_path)
    assert "unsafe" not in str(caught.value)


def test_pickled_npz_is_refused(npz, tmp_path):
    np.savez(tmp_path / "set.npz", images=np.array([{}], object))
    with pytest.raises(DataError, match="cannot be read as npz"):
        load(npz, tmp_path)


@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_damaged_picture_names_the_file(folder, tmp_path, damage):
    (tmp_path / "3.png").unlink() if damage == "missing" else (tmp_path / "3.png").write_bytes(b"nope")
    with pytest.raises(DataError, match=r"3\.png"):
        load(folder, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "other.npz"}, r"other\.npz does not exist; check the path, or --data"),
        ({"images": "pixels"}, "unknown array 'pixels'"),
        ({"images": "labels"}, "pictures are uint8"),
        ({"offsets": "role", "images": "part"}, "strings are bytes"),
        ({"label": "one"}, "24 images but 1 'one'; they must be as many"),
        ({"train": {"prt": 0}}, "unknown column 'prt'. Did you mean 'part'"),
        ({"train": {"part": 9}}, "no item is in train"),
        ({"train": {"part": [0, 1]}}, "8 items are in both train or pool and search"),
        ({"train": {"role": {"below": 3}}}, "'from' and 'below' need numbers"),
    ],
)
def test_wrong_settings_are_named(npz, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        load(npz | change, tmp_path)


def test_no_folder_at_all(npz, monkeypatch):
    monkeypatch.delenv("CMPNAS_DATA", raising=False)
    with pytest.raises(DataError, match="name their folder with --data"):
        load_splits(TypeAdapter(AnyData).validate_python({"size": 16} | npz))


def test_fashion_mnist_itself(data_root):
    from cmpnas.recipe import load_recipe

    splits = load_splits(load_recipe("fashion_mnist").data, str(data_root))
    assert [len(splits.train), len(splits.test.query), len(splits.test.gallery)] == [55_000, 1_000, 9_000]
    assert splits.test.query.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
