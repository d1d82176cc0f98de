"""A bank gives back what was put in, a batch at a time, and says what does not fit."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.gallery.bank import Bank, Entry, add_source, begin_bank

ROWS = np.array([3, 4, 9, 11, 20])


def entry(name, images, kind="global", **more):
    return Entry(**{"name": name, "file": f"{name}.npy", "kind": kind, "images": images, "mflops": 2.0,
                    "made_of": "m"} | more)  # fmt: skip


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 1, 6)).astype(np.float16), rng.normal(size=(5, 3, 4)).astype(np.float16)


@pytest.fixture
def bank(tmp_path, arrays):
    bank = begin_bank(tmp_path / "bank", ROWS, "data")
    images = bank.manifest.images
    bank = add_source(bank, [entry("a", images)], ([arrays[0][i : i + 2]] for i in range(0, 5, 2)))
    return add_source(bank, [entry("b", images, "local")], [[arrays[1]]])


def change(bank, **changes):
    path = bank.folder / "manifest.json"
    content = json.loads(path.read_text())
    content["sources"][1] |= changes
    path.write_text(json.dumps(content))


def test_rows_come_back_in_any_order(bank, arrays):
    for opened in (bank, Bank.open(bank.folder), begin_bank(bank.folder, ROWS, "data")):
        for rows in ([20, 3, 9, 3], [4], ROWS):
            at = np.searchsorted(ROWS, rows)
            for found, array in zip(opened.read(np.array(rows)), arrays, strict=True):
                assert np.array_equal(found.numpy(), array[at].astype(np.float32))
    assert bank.names == ("a", "b")
    assert bank.shapes == ((1, 6), (3, 4))
    (only,) = bank.only(["b"]).read(np.array([11]))
    assert np.array_equal(only[0].numpy(), arrays[1][3].astype(np.float32))


def test_other_float_types_are_read_too(bank):
    np.save(bank.folder / "a.npy", np.arange(30, dtype=np.float64).reshape(5, 6))
    assert Bank.open(bank.folder).read(np.array([4]))[0].tolist() == [[[6, 7, 8, 9, 10, 11]]]


def test_what_it_holds(bank):
    assert bank.holds(np.array([20, 3]))
    assert not bank.holds(np.array([3, 5]))
    with pytest.raises(DataError, match="row 5 of the data set is not in"):
        bank.read(np.array([3, 5]))
    with pytest.raises(DataError, match="row 99 of the data set is not in"):
        bank.read(np.array([99]))


def test_a_writer_that_stops_leaves_no_source(bank, arrays):
    def broken():
        yield [arrays[0][:2]]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_source(bank, [entry("c", bank.manifest.images)], broken())
    again = Bank.open(bank.folder)
    assert again.names == ("a", "b")
    assert add_source(again, [entry("c", bank.manifest.images)], [[arrays[0]]]).names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "other"}, r"source 'b' .* was made from another list of images \(other; the bank's is"),
        ({"name": "a"}, "names source 'a' twice; give each a name of its own"),
        ({"kind": "global"}, r"b\.npy of source 'b' is float16 \(5, 3, 4\); global features are \(5, W\) floats"),
        ({"kind": "both"}, r"manifest\.json has 1 mistake: sources\.1\.kind: .*'global' or 'local'"),
        ({"flops": 1}, r"sources\.1\.flops: unknown key, did you mean 'mflops'"),
        ({"file": "none.npy"}, r"none\.npy cannot be read"),
    ],
)
def test_manifests_that_do_not_fit(bank, changes, message):
    change(bank, **changes)
    with pytest.raises(DataError, match=message) as caught:
        Bank.open(bank.folder)
    assert "\n" not in str(caught.value)


def test_arrays_that_do_not_fit(bank):
    np.save(bank.folder / "b.npy", np.zeros((4, 3, 4), np.float16))
    with pytest.raises(DataError, match=r"is float16 \(4, 3, 4\); local features are \(5, T, W\)"):
        Bank.open(bank.folder)
    np.save(bank.folder / "b.npy", np.zeros((5, 3, 4), np.int64))
    with pytest.raises(DataError, match="is int64"):
        Bank.open(bank.folder)
    (bank.folder / "b.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"b\.npy cannot be read"):
        Bank.open(bank.folder)


def test_numbers_that_are_none(bank, arrays):
    broken = arrays[1].copy()
    broken[3, 1, 2] = np.nan
    np.save(bank.folder / "b.npy", broken)
    bank.read(np.array([3, 4]))
    with pytest.raises(DataError, match=r"source 'b' of .* holds NaN or infinity for row 11 of the data set"):
        bank.read(np.array([3, 11]))
    with pytest.raises(DataError, match=r"source 'c' gives NaN or infinity for row 11"):
        add_source(bank, [entry("c", bank.manifest.images, "local")], [[broken[:2]], [broken[2:]]])


def test_a_bank_that_was_hardly_begun_is_begun_again(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS[:3])
    assert len(begin_bank(tmp_path, ROWS, "data")) == len(ROWS)


def test_folders_that_are_no_banks(bank, tmp_path):
    with pytest.raises(DataError, match=r"has no manifest\.json, so it is no bank"):
        Bank.open(tmp_path)
    with pytest.raises(DataError, match=r"has no manifest\.json, so it is no bank"):
        begin_bank(tmp_path, ROWS, "data")
    with pytest.raises(DataError, match="is a bank of another list of images"):
        begin_bank(bank.folder, ROWS[:4], "data")
    with pytest.raises(DataError, match="is a bank of another list of images"):
        begin_bank(bank.folder, ROWS, "other data")
    (bank.folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        Bank.open(bank.folder)


def test_sources_that_do_not_fit(bank, arrays):
    images = bank.manifest.images
    with pytest.raises(DataError, match="has a source 'a' already"):
        add_source(bank, [entry("a", images)], [[arrays[0]]])
    with pytest.raises(DataError, match="source 'c' has 3 rows, the bank 5"):
        add_source(bank, [entry("c", images)], [[arrays[0][:3]]])
    with pytest.raises(DataError, match="has no source 'd'; there are: a, b"):
        bank.only(["d"])


_READ = """
import resource, sys, numpy as np
from pathlib import Path
from cmpnas.gallery.bank import Bank
bank, rng = Bank.open(Path(sys.argv[1])), np.random.default_rng(0)
bank.read(np.arange(256))
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (own + 50 * 2**20, -1))  # of memory of its own, not of mapped files
for _ in range(20):
    bank.read(np.sort(rng.integers(0, len(bank), 256)))
for start in range(0, len(bank), 4096):
    bank.read(np.arange(start, min(start + 4096, len(bank))))
print("read")
bank.read(np.arange(len(bank)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_reading_all_of_a_large_bank_takes_the_memory_of_a_batch(tmp_path):
    rows = np.arange(100_000)
    bank = begin_bank(tmp_path / "large", rows, "data")
    chunk = np.zeros((4000, 1, 512), np.float16)
    add_source(bank, [entry("a", bank.manifest.images)], ([chunk] for _ in range(25)))
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(bank.folder), str(50 * 2**20)], capture_output=True, text=True
    )
    assert done.stdout == "read\n", done.stderr  # in half the size of the file
    assert "MemoryError" in done.stderr  # which is a limit indeed
