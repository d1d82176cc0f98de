"""Google Landmarks v2: the official CSVs and mAP@100 computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval.protocols import Landmarks
from cmpnas.retrieval.similarity import Given

INDEX = [f"{number:016x}" for number in range(300)]


def write(folder, solution):
    (folder / "index.csv").write_text("id\n" + "".join(f"{name}\n" for name in INDEX))
    (folder / "retrieval_solution_v2.1.csv").write_text("id,images,Usage\n" + solution)
    return Landmarks.read(folder)


def test_hand_computed(tmp_path):
    many = " ".join(INDEX[50:250])  # 200 relevant, in ranks 51 to 250
    truth = write(
        tmp_path,
        f"q1,{INDEX[0]} {INDEX[3]} {INDEX[150]},Public\nq2,None,Ignored\nq3,{many},Private\nq4,{INDEX[120]},Private\n",
    )
    assert truth.query_ids == ["q1", "q2", "q3", "q4"]
    ranking = Given(np.tile(-np.arange(300.0), (4, 1)))  # item i at rank i + 1
    assert truth.scores(ranking, "Public")["map@100/min"] == pytest.approx((1 / 1 + 2 / 4) / 3)
    beyond = sum(j / (50 + j) for j in range(1, 51)) / 100  # 50 of the first 100; the divisor is min(100, 200)
    private = truth.scores(ranking, "Private")
    assert private.per_query("map@100/min") == pytest.approx([beyond, 0.0])
    embeddings = np.eye(300)[:4]
    lines = truth.results(embeddings, np.eye(300) + 0.001)
    assert [(line.part, line.queries, line.excluded) for line in lines] == [("private", 2, 0), ("public", 1, 0)]
    with pytest.raises(DataError, match="3 queries and 300 gallery items are scored; the ground truth is of 4 and 300"):
        truth.results(embeddings[:3], np.eye(300) + 0.001)


def test_files_of_other_programs_are_read(tmp_path):
    """A byte-order mark, spaces after commas, Windows line ends."""
    truth = write(tmp_path, f"q1,{INDEX[0]},Public\n")
    for path in tmp_path.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b",", b", ").replace(b"\n", b"\r\n"))
    again = Landmarks.read(tmp_path)
    assert (again.query_ids, again.gallery_ids, again.usage.tolist()) == (["q1"], INDEX, ["Public"])
    assert again.relevant[0].tolist() == truth.relevant[0].tolist()


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ("q1,ffff,Public\n", "names image 'ffff' for query 'q1', which .*index.csv lacks"),
        (f"q1,{INDEX[0]},Public\nq1,{INDEX[1]},Public\n", "names 'q1' more than once"),
        ("q1\n", "line 2: 1 fields where the header has 3"),
    ],
)
def test_wrong_files_are_named(tmp_path, solution, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path, solution)


def test_another_header_is_named(tmp_path):
    (tmp_path / "index.csv").write_text("name\na\n")
    with pytest.raises(DataError, match="has no column 'id'; its header is name"):
        Landmarks.read(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        Landmarks.read(tmp_path / "none")
