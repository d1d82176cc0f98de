"""What is found first, against a naive search."""

from __future__ import annotations

import numpy as np

from cmpnas.retrieval import nearest as module
from cmpnas.retrieval.nearest import nearest


def test_it_is_a_naive_search_that_skips_the_own_source(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 20)  # two queries at once
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(5, 4)), rng.normal(size=(9, 4))
    own, others = np.array([0, 2, 5, 1, 7]), np.array([0, 1, 2, 0, 1, 2, 7, 7, 7])
    for exclude in (None, (own, others)):
        for q, found in enumerate(nearest(query, gallery, 4, exclude)):
            allowed = [g for g in range(9) if exclude is None or others[g] != own[q]]
            assert found.tolist() == sorted(allowed, key=lambda g: -query[q] @ gallery[g])[:4]


def test_rows_that_nobody_finds_leave_the_others_their_numbers():
    query, gallery = np.eye(4)[:2], np.eye(4)
    assert nearest(query, gallery, 2, None, np.array([0, 2])).tolist() == [[1, 3], [1, 3]]


def test_where_there_are_fewer_there_is_none():
    found = nearest(np.ones((2, 4)), np.ones((3, 4)), 5, (np.array([0, 1]), np.array([0, 0, 3])))
    assert found[0].tolist() == [2, -1, -1]
    assert sorted(found[1]) == [0, 1, 2]
