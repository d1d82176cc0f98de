"""Query embeddings stay while they fit; then those of the front do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.errors import RunError
from cmpnas.search.kept import KeptQueries
from cmpnas.search.records import PairScore, Record


def record(space, n, score, mflops):
    """Two galleries: against the second the order is turned round."""
    galleries = {"g": PairScore(score, (0, 1)), "h": PairScore(1 - score, (0, 1))}
    return Record(n, space.extremes()[0], mflops, 1.0, galleries, 0.5)


def test_round_trip(tmp_path):
    kept = KeptQueries(tmp_path / "queries", 10**6)
    query = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert kept.load(0) is None
    kept.save(0, query)
    assert np.array_equal(kept.load(0), query)
    assert [path.name for path in kept.folder.iterdir()] == ["0.npy"]
    (kept.folder / "0.npy").write_bytes(b"half")
    with pytest.raises(RunError, match=r"0\.npy cannot be read .* delete it to leave its record as it is"):
        kept.load(0)


def test_beyond_the_limit_only_what_nothing_beats_stays(small, tmp_path):
    kept = KeptQueries(tmp_path / "queries", 3 * (128 + 80))
    points = [(0.5, 1.0), (0.4, 2.0), (0.9, 3.0), (0.7, 4.0), (0.2, 5.0), (0.8, 6.0)]
    records = [record(small, n, *point) for n, point in enumerate(points)]
    held = []
    for n in range(6):
        kept.save(n, np.zeros((5, 4), np.float32))
        kept.prune(records[: n + 1], Budget())
        held.append(sorted(int(path.stem) for path in kept.folder.iterdir()))
    # Against g: 0, then 2. Against h, of 1 - score: 0, 1 and 4; 3 and 5 are beaten in both.
    assert held == [[0], [0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2, 4], [0, 1, 2, 4]]


def test_what_is_evaluated_ahead_of_its_turn_stays(small, tmp_path):
    kept = KeptQueries(tmp_path / "queries", 0)
    for n in (0, 1, 3):
        kept.save(n, np.zeros((5, 4), np.float32))
    kept.prune([record(small, 0, 0.5, 2.0), record(small, 1, 0.5, 3.0)], Budget())
    assert sorted(int(path.stem) for path in kept.folder.iterdir()) == [0, 3]


def test_numbers_of_several_digits_count_to_the_limit(small, tmp_path):
    kept = KeptQueries(tmp_path / "queries", 5 * (128 + 80))
    records = [record(small, n, 0.5, 100.0 + (n - 10) ** 2) for n in range(14)]  # 10 beats all
    for n in range(8, 14):
        kept.save(n, np.zeros((5, 4), np.float32))
    kept.prune(records, Budget())
    assert [path.stem for path in kept.folder.iterdir()] == ["10"]


def test_within_milliseconds_nothing_beats_what_is_fastest(small, tmp_path):
    kept = KeptQueries(tmp_path / "queries", 0)
    slow, fast = (replace(record(small, n, 0.5, 2.0 + n), latency_ms=9.0 - n) for n in range(2))
    for n in range(2):
        kept.save(n, np.zeros((5, 4), np.float32))
    kept.prune([slow, fast], Budget(latency_ms=10.0))
    assert [path.stem for path in kept.folder.iterdir()] == ["1"]


def test_records_that_lack_a_gallery_lose_against_it(small, tmp_path):
    kept = KeptQueries(tmp_path / "queries", 0)
    first = record(small, 0, 0.5, 2.0)
    bare = Record(1, first.arch, 3.0, 1.0, {"g": PairScore(0.4, (0, 1))}, 0.5)
    for n in range(2):
        kept.save(n, np.zeros((5, 4), np.float32))
    kept.prune([first, bare], Budget())
    assert kept.load(0) is not None
    assert kept.load(1) is None
