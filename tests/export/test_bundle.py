"""Bundles are whole or absent, and a file that does something else than the network is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmpnas.errors import RunError
from cmpnas.export.bundle import Bundle, describe_files, whole_or_absent
from cmpnas.export.graph import run_module, run_onnx, run_program, trace, write_onnx, write_program
from cmpnas.export.pictures import UnitEncoder
from cmpnas.export.proof import check_vectors, must_be_of
from cmpnas.files import hash_file, write_json
from cmpnas.models import build_network


@pytest.fixture(scope="module")
def files(small, tmp_path_factory):
    """One network as ONNX file and as program, and what it says of ten pictures."""
    torch.manual_seed(0)
    encoder = UnitEncoder(build_network(small, small.extremes()[0])).eval()
    folder = tmp_path_factory.mktemp("files")
    pictures = np.random.default_rng(0).normal(size=(10, 3, 32, 32)).astype(np.float32)
    program = trace(encoder, pictures[:2])
    write_program(program, folder / "query.pt2")
    write_onnx(program, folder / "query.onnx")
    return folder, pictures, run_module(encoder)(pictures)


def test_both_files_do_what_torch_did(files):
    folder, pictures, expected = files
    for run in (run_onnx(folder / "query.onnx"), run_program(folder / "query.pt2")):
        check = check_vectors("it", run, pictures, expected, "torch")
        assert check["batches"] == [1, 2, 7, 10]
        assert check["max_abs_difference"] < 1e-5
        assert check["unit_norm_error"] < 1e-5


def test_files_tell_nothing_of_the_machine(files):
    for name in ("query.onnx", "query.pt2"):
        content = (files[0] / name).read_bytes()
        assert b"stack_trace" not in content
        assert b"cmpnas/" not in content


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda got: got + 1e-3, "differs from torch by 1"),
        (lambda got: got * 1.01, "in length from 1 by 1"),
        (lambda got: np.full_like(got, np.nan), "differs from torch by nan"),
        (lambda got: got[:1], "gives .1, 16. for 2 pictures"),
        (lambda got: got[:, :5], "gives .1, 5. for 1 pictures"),
    ],
)
def test_another_vector_is_noticed(files, wrong, message):
    _, pictures, expected = files

    def run(some):
        return wrong(expected[: len(some)])

    with pytest.raises(RunError, match=message):
        check_vectors("it", run, pictures, expected, "torch")


def test_a_batch_that_is_baked_in_is_noticed(files):
    _, pictures, expected = files

    def run(some):
        if len(some) != 2:
            raise ValueError("expected 2")
        return expected[:2]

    with pytest.raises(RunError, match=r"it cannot run 1 pictures .expected 2"):
        check_vectors("it", run, pictures, expected, "torch")


@pytest.mark.parametrize("open_file", [run_onnx, run_program])
def test_damaged_files_are_named(tmp_path, open_file):
    (tmp_path / "query.x").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"query.x cannot be run .*; export it again"):
        open_file(tmp_path / "query.x")


def test_a_bundle_takes_its_place_at_once(tmp_path):
    out = tmp_path / "deep" / "bundle"
    with pytest.raises(RunError, match=r"it failed. Nothing was exported"), whole_or_absent(out):
        raise RunError("it failed.")
    assert not list(tmp_path.iterdir())
    with whole_or_absent(out) as folder:
        (folder / "query.onnx").write_bytes(b"1")
        (folder / "query.int8.onnx").write_bytes(b"1")
        write_json(folder / "manifest.json", {"schema": 1, "files": describe_files(folder)})
    (out / "mine.txt").write_text("keep")
    with whole_or_absent(out) as folder:
        (folder / "query.onnx").write_bytes(b"2")
        (folder / "scratch").mkdir()
        write_json(folder / "manifest.json", {"schema": 1, "files": describe_files(folder)})
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "mine.txt", "query.onnx"]
    assert (out / "query.onnx").read_bytes() == b"2"


def test_what_somebody_put_into_a_bundle_is_theirs(tmp_path):
    with whole_or_absent(tmp_path / "out") as folder:
        for name in ("query.onnx", "query.int8.onnx", "gallery.onnx"):
            (folder / name).write_bytes(b"1")
        write_json(folder / "manifest.json", {"schema": 1, "files": describe_files(folder)})
    (tmp_path / "out" / "gallery.onnx").write_bytes(b"mine")
    with whole_or_absent(tmp_path / "out") as folder:
        (folder / "query.onnx").write_bytes(b"2")
        write_json(folder / "manifest.json", {"schema": 1, "files": describe_files(folder)})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gallery.onnx", "manifest.json", "query.onnx"]
    (tmp_path / "out" / "query.onnx").unlink()
    (tmp_path / "out" / "query.onnx").mkdir()
    in_the_way = pytest.raises(RunError, match=r"query.onnx is a folder, .* Nothing was exported")
    with in_the_way, whole_or_absent(tmp_path / "out") as folder:
        (folder / "query.onnx").write_bytes(b"3")


@pytest.mark.parametrize(
    "manifest",
    [
        {"name": "my-paper", "files": ["thesis.tex", "../notes.txt"]},
        {"schema": 1, "files": {"../notes.txt": {"hash": "x", "bytes": 1}}},
        {"schema": 1, "files": {"thesis.tex": "x"}},
        {"schema": 2},
    ],
)
def test_manifests_of_others_are_left_alone(tmp_path, manifest):
    (tmp_path / "out").mkdir()
    for name in ("thesis.tex", "../notes.txt", "README.md"):
        (tmp_path / "out" / name).write_text("mine")
    write_json(tmp_path / "out" / "manifest.json", manifest)
    with pytest.raises(RunError, match="is not empty and no bundle"), whole_or_absent(tmp_path / "out"):
        pass
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "out" / "README.md").read_text() == "mine"


@pytest.mark.parametrize("files", [["gallery.onnx", "README.md"], ["manifest.json", "records.jsonl"]])
def test_a_folder_of_something_else_is_left_alone(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text('{"seed": 0}')
    with pytest.raises(RunError, match="is not empty and no bundle; name another --out"), whole_or_absent(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert all((tmp_path / name).read_text() == '{"seed": 0}' for name in files)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(RunError, match=r"cannot write to .*; name another --out"),
        whole_or_absent(tmp_path / "file" / "x"),
    ):
        pass


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "query.onnx").write_bytes(b"whole")
    content = {
        "input": {},
        "gallery": {"index": "", "key": ""},
        "data": {"settings": {}, "fingerprint": ""},
        "proof": {},
    }
    content |= {"scores": {"metric": "map_full", "heterogeneous": {}}, "schema": 1, "files": describe_files(tmp_path)}
    write_json(tmp_path / "manifest.json", content)
    return tmp_path


def test_a_bundle_is_read_back(opened):
    bundle = Bundle.open(opened)
    assert bundle.has("query.onnx")
    assert not bundle.has("query.int8.onnx")
    with pytest.raises(RunError, match="does not say what the files take"):
        _ = bundle.pictures


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("manifest.json", None, "has no manifest.json, it is not a bundle; make one with: cmpnas export RUN"),
        ("manifest.json", b"{", "manifest.json cannot be read"),
        ("manifest.json", b"[]", "manifest.json has no 'files'; it is damaged"),
        ("manifest.json", b'{"schema": 1, "files": {"query.onnx": {"hash": "x"}}, "input": []}', "has no 'input'"),
        ("query.onnx", b"other", "query.onnx is damaged .hash [0-9a-f]{12}, the manifest has [0-9a-f]{12}.; export"),
        ("query.onnx", None, "query.onnx is missing; export again"),
    ],
)
def test_damaged_bundles_are_refused(opened, file, content, message):
    if content is None:
        (opened / file).unlink()
    else:
        (opened / file).write_bytes(content)
    with pytest.raises(RunError, match=message):
        Bundle.open(opened)


def test_an_index_is_of_the_gallery_model_or_refused(tmp_path):
    index = tmp_path / "index.faiss"
    with pytest.raises(RunError, match="does not exist; name RUN/gallery"):
        must_be_of(index, {"index": "a", "key": "b"})
    index.write_bytes(b"one")
    found = hash_file(index)
    must_be_of(index, {"index": found, "key": "b"})
    with pytest.raises(RunError, match=rf"hash {found}, gallery model unknown.*index a, gallery model b"):
        must_be_of(index, {"index": "a", "key": "b"})
    write_json(tmp_path / "key.json", "b")  # the same model's vectors in another kind of index
    must_be_of(index, {"index": "a", "key": "b"})
    with pytest.raises(RunError, match=rf"hash {found}, gallery model b.*index a, gallery model c"):
        must_be_of(index, {"index": "a", "key": "c"})
