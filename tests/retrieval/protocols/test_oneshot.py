"""One-shot runs in Omniglot's format."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval.protocols import OneShot


def write(folder, runs=3, ways=4):
    """Test item i of a run belongs to training class (i + run) % ways; lines in no order."""
    for run in range(runs):
        name = f"run{run + 1:02d}"
        (folder / name).mkdir()
        lines = [
            f"{name}/test/item{i + 1:02d}.png {name}/training/class{(i + run) % ways + 1:02d}.png\n"
            for i in range(ways)
        ]
        (folder / name / "class_labels.txt").write_text("".join(lines[::-1]))
    return OneShot.read(folder)


def test_every_run_is_its_own_gallery(tmp_path):
    truth = write(tmp_path)
    assert truth.query_ids[:2] == ["run01/test/item01.png", "run01/test/item02.png"]
    assert truth.gallery_ids[4] == "run02/training/class01.png"
    assert truth.answer.tolist() == [0, 1, 2, 3, 5, 6, 7, 4, 10, 11, 8, 9]
    axes = np.eye(4)
    gallery = np.tile(axes, (3, 1))  # the same four vectors in every run: another run's would be ties
    right = gallery[truth.answer]
    assert truth.results(right, gallery)[0].value == 1
    wrong = right.copy()
    wrong[[0, 5, 6]] = axes[[1, 0, 0]]
    (line,) = truth.results(wrong, gallery)
    assert (line.value, line.queries, line.part) == (9 / 12, 12, "3 runs")


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no run with a class_labels.txt"):
        OneShot.read(tmp_path)
    truth = write(tmp_path)
    with pytest.raises(DataError, match="5 embeddings of test pictures; the runs list 12"):
        truth.results(np.ones((5, 2)), np.ones((12, 2)))
    labels = tmp_path / "run01" / "class_labels.txt"
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes())
    assert OneShot.read(tmp_path).answer.tolist() == truth.answer.tolist()
    labels.write_text("")
    with pytest.raises(DataError, match=r"class_labels.* is empty"):
        OneShot.read(tmp_path)
    labels.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not text"):
        OneShot.read(tmp_path)
    labels.write_text("one two\nthree\n")
    with pytest.raises(DataError, match="line 2, is not two paths"):
        OneShot.read(tmp_path)
