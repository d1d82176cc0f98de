"""Revisited Oxford and Paris: the official pickle, numbers by hand, and the published algorithm in plain loops."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval.protocols import Revisited
from cmpnas.retrieval.similarity import Given


def write(path, gnd, n_gallery, **changes):
    content = {"gnd": gnd, "imlist": [f"g{i}" for i in range(n_gallery)], "qimlist": [f"q{i}" for i in range(len(gnd))]}
    path.write_bytes(pickle.dumps(content | changes, protocol=2))
    return path


def entry(easy, hard, junk):
    return {"bbx": [1.0, 2.0, 30.0, 40.0], "easy": easy, "hard": hard, "junk": junk}


def test_hand_computed(tmp_path):
    """Ranking 0 1 2 3 4 5; easy 2, hard 4, junk 0 and 3."""
    truth = Revisited.read(write(tmp_path / "gnd_roxford5k.pkl", [entry([2], [4], [0, 3])], 6))
    ranking = Given(np.array([[6.0, 5, 4, 3, 2, 1]]))
    # easy: 0, 3, 4 removed: 1 2 5, the easy one at 2: ((0/1) + 1/2) / 2.
    assert truth.scores(ranking, "easy")["map_oxford"] == pytest.approx(0.25)
    # medium: 0, 3 removed: 1 2 4 5, at 2 and 3: ((0/1 + 1/2) + (1/2 + 2/3)) / 4.
    assert truth.scores(ranking, "medium")["map_oxford"] == pytest.approx((0.5 + 0.5 + 2 / 3) / 4)
    # hard: 0, 2, 3 removed: 1 4 5, at 2.
    assert truth.scores(ranking, "hard")["map_oxford"] == pytest.approx(0.25)
    assert truth.scores(ranking, "medium")["mp@1_oxford"] == 0
    assert truth.scores(ranking, "medium")["mp@5_oxford"] == pytest.approx(2 / 3)  # m = min(3, 5)


def published(ranking, ok, junk, k):
    """Average precision and mP@k of one query as the benchmark's paper and code define them, by walking the list."""
    place, positions = 0, []
    for item in ranking:
        if item in junk:
            continue
        if item in ok:
            positions.append(place)
        place += 1
    ap = sum(((j / r) if r else 1.0) + (j + 1) / (r + 1) for j, r in enumerate(positions)) / (2 * len(ok))
    reach = min(positions[-1] + 1, k)
    return ap, sum(r + 1 <= reach for r in positions) / reach


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_published_algorithm(tmp_path, seed):
    rng = np.random.default_rng(seed)
    gnd = []
    for _ in range(9):
        mixed = rng.permutation(40)
        cuts = np.sort(rng.integers(0, 15, 2))
        gnd.append(entry(mixed[: cuts[0]].tolist(), mixed[cuts[0] : cuts[1]], mixed[cuts[1] : cuts[1] + 4].tolist()))
    truth = Revisited.read(write(tmp_path / "gnd.pkl", gnd, 40))
    query, gallery = rng.normal(size=(9, 6)), rng.normal(size=(40, 6))
    cosine = query @ gallery.T / np.linalg.norm(gallery, axis=1)
    found = {(line.part, line.metric): line for line in truth.results(query, gallery)}
    for setup, counted, removed in (
        ("easy", ["easy"], ["hard", "junk"]),
        ("medium", ["easy", "hard"], ["junk"]),
        ("hard", ["hard"], ["easy", "junk"]),
    ):
        expected = []
        for row, own in zip(cosine, gnd, strict=True):
            ok, junk = (
                set(np.concatenate([np.asarray(own[kind], int) for kind in kinds])) for kinds in (counted, removed)
            )
            if ok:
                expected.append(published(np.argsort(-row), ok, junk, 5))
        assert found[setup, "map_oxford"].value == pytest.approx(np.mean([ap for ap, _ in expected]))
        assert found[setup, "mp@5_oxford"].value == pytest.approx(np.mean([mp for _, mp in expected]))
        assert found[setup, "map_oxford"].queries == len(expected)
        assert found[setup, "map_oxford"].excluded == 9 - len(expected)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("gnd", "changes", "message"),
    [
        ([entry([0], [], [])], {"extra": Harmful()}, r"asks for posix.mkdir, which no ground truth needs"),
        ([entry([9], [], [])], {}, "names gallery item 9; there are 3"),
        ([{"ok": [1], "junk": []}], {}, "not a ground truth of imlist, qimlist and gnd"),
        ([entry(3, [], [])], {}, "'3' is no list of rows"),
        ([entry([0.9], [], [])], {}, "is no list of rows"),
        ([entry([0], [], [])] * 2, {"qimlist": ["a"]}, "names 1 queries but has ground truth of 2"),
        ([entry([0], [], [])], {"imlist": ["a", "b", "a"]}, "names 'a' more than once"),
    ],
)
def test_wrong_files_are_named_and_run_nothing(tmp_path, monkeypatch, gnd, changes, message):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "gnd.pkl", gnd, 3, **changes)
    with pytest.raises(DataError, match=message):
        Revisited.read(path).scores(Given(np.ones((len(gnd), 3))), "easy")
    assert not (tmp_path / "harm").exists()


def test_arrays_of_the_newest_pickles_are_read(tmp_path):
    gnd = [entry(np.array([0]), np.array([1, 2]), np.empty(0, int))]
    content = {"gnd": gnd, "imlist": ["a", "b", "c"], "qimlist": ["q"]}
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(content, protocol=5))
    assert Revisited.read(tmp_path / "gnd.pkl").truth["hard"][0].tolist() == [1, 2]


def test_a_truth_without_positives_is_named(tmp_path):
    path = write(tmp_path / "gnd.pkl", [entry([], [], [1])], 3)
    with pytest.raises(DataError, match="has any positive"):
        Revisited.read(path).results(np.ones((1, 2)), np.ones((3, 2)))


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: raw[:-20], lambda raw: b"hello" + raw])
def test_damaged_files_are_named(tmp_path, damage):
    path = write(tmp_path / "gnd.pkl", [entry([0], [], [])], 3)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"gnd.pkl is not a ground truth"):
        Revisited.read(path)
