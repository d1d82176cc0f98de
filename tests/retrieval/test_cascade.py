"""The cascade against sorting by hand, on vectors of texts or pictures; the planner against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import CmpnasError
from cmpnas.retrieval import GalleryIndex
from cmpnas.retrieval.cascade import Cascade, Encoded, candidates, cascade_table
from cmpnas.retrieval.planner import Measured, Times, hits_by_k, plan, scan_hits

N, Q, D = 60, 8, 6


@pytest.fixture
def vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple((x := rng.normal(size=(n, D))) / np.linalg.norm(x, axis=1, keepdims=True) for n in (Q, N))


@pytest.fixture
def tables(vectors) -> tuple[np.ndarray, np.ndarray]:
    coarse = vectors[0] @ vectors[1].T
    return coarse, coarse + np.random.default_rng(1).normal(size=(Q, N)) * 0.3


def by_hand(coarse: np.ndarray, fine: np.ndarray, k: int, mix: str, weight: float) -> list[int]:
    """Rows of one query's candidates, best first."""
    rows = sorted(range(N), key=lambda n: -coarse[n])[:k]

    def place(scores):
        return {n: sum(scores[m] > scores[n] for m in rows) for n in rows}

    if mix == "weighted":
        return sorted(rows, key=lambda n: -(fine[n] + weight * coarse[n]))
    f, c = place(fine), place(coarse)
    return sorted(rows, key=lambda n: (f[n] + c[n], -fine[n]))


@pytest.mark.parametrize(("mix", "weight"), [("weighted", 0.0), ("weighted", 0.3), ("ranks", 0.0)])
@pytest.mark.parametrize("k", [2, 7, 60])
def test_pictures_re_ranked_for_pictures_as_by_hand(vectors, tables, mix, weight, k):
    """Queries are vectors here: image-to-image re-ranking, with an index of faiss as the first stage."""
    coarse, fine = tables

    def score(queries, rows):
        which = [int(np.argmin(((vectors[0] - query) ** 2).sum(1))) for query in queries]
        return np.take_along_axis(fine[which], rows, 1)

    cascade = Cascade(GalleryIndex.build(vectors[1]), score, k, mix, weight)
    found = cascade.search(vectors[0])
    assert found.rows.shape == (Q, k)
    for q in range(Q):
        assert found.rows[q].tolist() == by_hand(coarse[q], fine[q], k, mix, weight)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    table = cascade_table(coarse, fine, k, mix, weight)
    order = np.argsort(-table, axis=1, kind="stable")
    assert (order[:, :k] == found.rows).all()
    rest = np.argsort(-coarse, axis=1, kind="stable")[:, k:]
    assert (order[:, k:] == rest).all()


def test_texts_are_encoded_first(vectors, tables):
    names = [f"query {n}" for n in range(Q)]
    coarse = Encoded(lambda texts: vectors[0][[names.index(text) for text in texts]], GalleryIndex.build(vectors[1]))
    cascade = Cascade(
        coarse, lambda texts, rows: np.take_along_axis(tables[1][[names.index(t) for t in texts]], rows, 1), 5
    )
    assert cascade.search(names[3:4]).rows[0].tolist() == by_hand(tables[0][3], tables[1][3], 5, "weighted", 0)


@pytest.mark.parametrize(
    ("mix", "rows", "best"), [("weighted", [2, 3, 4, -1], -2 + 0.1 * 0.8), ("ranks", [2, 4, 3, -1], -0.5)]
)
def test_places_that_an_index_leaves_empty_come_last(mix, rows, best):
    class Half:
        def search(self, query, k):
            return np.array([[0.9, 0.8, 0.5, -np.inf]]), np.array([[4, 2, 3, -1]])

    # Nobody is asked about as row 0, whose score is the best one; it moves nobody's place.
    found = Cascade(Half(), lambda query, rows: -rows.astype(float), 4, mix, 0.1).search(np.zeros((1, 2)))
    assert found.rows.tolist() == [rows]
    assert found.scores[0, 0] == pytest.approx(best)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "of 0 candidates"),
        ((3, "rank"), "unknown mix 'rank'. Did you mean 'ranks'"),
        ((3, "weighted", -2.0), "weigh -2"),
        ((3, "weighted", float("nan")), "weigh nan"),
    ],
)
def test_what_a_cascade_cannot_be(arguments, message):
    with pytest.raises(CmpnasError, match=message):
        Cascade(None, None, *arguments)


def test_hits_by_k_are_those_of_every_cascade(tables):
    coarse, fine = tables
    relevant = np.random.default_rng(2).random((Q, N)) < 0.08
    nearest, scores, right = candidates(coarse, 30, fine, relevant)
    assert (nearest == np.argsort(-coarse, axis=1)[:, :30]).all()
    hits = hits_by_k(scores, right)
    assert (scan_hits(fine, relevant) == [relevant[q, np.argmax(fine[q])] for q in range(Q)]).all()
    for k in range(1, 31):
        for q in range(Q):
            rows = by_hand(coarse[q], fine[q], k, "weighted", 0)
            assert hits[q, k - 1] == relevant[q, rows[0]]


TIMES = Times(text=0.5, dot=0.0001, base=1.0, fine=0.02)


def test_times_are_fitted_and_add_up():
    cascades = [(k, 0.5 + 0.1 + 1.0 + 0.02 * k) for k in (1, 10, 100)]
    fitted = Times.fit(0.5, (1000, 0.1), cascades)
    assert fitted.to_json() == pytest.approx(TIMES.to_json())
    assert fitted.cascade(1000, 50) == pytest.approx(0.5 + 0.1 + 1 + 1)
    assert fitted.scan(1000) == pytest.approx(21)


def curve(reached: list[float], queries: int = 1000) -> np.ndarray:
    return np.arange(queries)[:, None] < np.array(reached)[None] * queries


def found_in(n: int, hits: np.ndarray, scan: np.ndarray) -> Measured:
    """As if half of a gallery were as hard as all of it, and expected what was measured."""
    return Measured(n, hits, scan, hits, scan, scan.mean() - hits.mean(0), 1.0, 0.0)


def test_the_smallest_k_near_enough_is_planned():
    hits = curve([0.3, 0.4, 0.45, 0.496, 0.5, 0.5])
    scan = curve([0.5])[:, 0]
    found = plan(found_in(1000, hits, scan), TIMES, 1000, within=0.005)
    assert (found.k, found.binding, found.hit, found.scan_hit) == (4, "accuracy", 0.496, 0.5)
    assert found.milliseconds == pytest.approx(0.5 + 0.1 + 1 + 0.08)
    assert found.speedup == pytest.approx(21 / found.milliseconds)
    assert plan(found_in(1000, hits, scan), TIMES, 1000, within=0).k == 5
    short = plan(found_in(1000, hits[:, :3], scan), TIMES, 1000, within=0.005)
    assert (short.k, short.binding) == (3, "nothing")


def test_what_is_expected_decides_and_not_what_was_lucky():
    hits, scan = curve([0.3, 0.5, 0.45, 0.49, 0.5, 0.5]), curve([0.5])[:, 0]
    expected = np.array([0.2, 0.1, 0.05, 0.01, 0.004, 0.0])
    found = plan(Measured(1000, hits, scan, hits, scan, expected, 1.0, 0.3), TIMES, 1000, within=0.005)
    assert (found.k, found.hit, found.weight) == (5, 0.5, 0.3)


def test_a_larger_gallery_needs_proportionally_more_candidates():
    hits, scan = curve([0.1] * 9 + [0.5] * 91), curve([0.5])[:, 0]
    assert plan(found_in(101, hits, scan), TIMES, 101, within=0.005).k == 10
    assert plan(found_in(101, hits, scan), TIMES, 1001, within=0.005).k == 1 + 9 * 10
    assert plan(found_in(101, hits, scan), TIMES, 251, within=0.005).k == 24  # 1 + 9 * 2.5, whole
    small = plan(found_in(101, hits, scan), TIMES, 51, within=0.005)
    assert 5 <= small.k <= 6


def test_more_pictures_of_the_same_things_are_no_harder_and_take_longer():
    hits, scan = curve([0.1] * 9 + [0.5] * 91), curve([0.5])[:, 0]
    easier = curve([0.6] * 100)  # in half of the gallery
    measured = Measured(101, hits, scan, easier, curve([0.6])[:, 0], scan.mean() - hits.mean(0), 1.0, 0.0)
    same = plan(measured, TIMES, 101, within=0.005)
    more = plan(measured, TIMES, 1001, within=0.005, right=1001 / 101)
    assert (more.k, more.hit, more.scan_hit, more.n) == (same.k, same.hit, same.scan_hit, 1001)
    assert more.milliseconds == pytest.approx(same.milliseconds + 900 * TIMES.dot)
    assert plan(measured, TIMES, 1001, within=0.005).hit < more.hit - 0.1
    whole = plan(measured, TIMES, 40, within=0.005, right=40 / (101 * 20))
    assert (whole.k, whole.hit) == (40, whole.scan_hit)


def test_time_limits_the_candidates_or_is_refused():
    hits, scan = curve([0.3, 0.4, 0.4, 0.45, 0.5]), curve([0.5])[:, 0]
    found = plan(found_in(1000, hits, scan), TIMES, 1000, within=0, max_milliseconds=1.6 + 0.061)
    assert (found.k, found.binding) == (2, "latency")  # 3 would fit and bring nothing
    with pytest.raises(CmpnasError, match=r"takes 1.62 ms with a single candidate of 1000; the limit is 1.5 ms"):
        plan(found_in(1000, hits, scan), TIMES, 1000, within=0, max_milliseconds=1.5)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_what_is_found_first_in_a_larger_gallery_is_foreseen(noise):
    """Queries of unequal difficulty, wrong pictures ever new: 500 pictures foretell 4,000."""
    rng, queries, n, more = np.random.default_rng(0), 2000, 500, 4000
    ease = rng.normal(3.2, 1.0, (queries, 1))

    def gallery(size):
        fine = np.concatenate([ease, rng.normal(size=(queries, size - 1))], 1)
        relevant = np.zeros((queries, size), bool)
        relevant[:, 0] = True
        return fine + rng.normal(0, noise, fine.shape), fine, relevant

    measured = Measured.of(*gallery(n), 16)
    for size in (n // 2, n, more):
        coarse, fine, relevant = gallery(size)
        first = hits_by_k(*candidates(coarse, measured.deepest(size), fine, relevant)[1:])
        foreseen = [measured.foreseen(k, size)[0] for k in range(1, measured.deepest(size) + 1)]
        assert np.diff(foreseen).min() > -0.005
        assert np.abs(np.array(foreseen) - first.mean(0)).max() < (0.06 if size == more else 0.03)
    places = np.arange(measured.deepest(more)) * (n - 1) / (more - 1)
    without = np.interp(places, np.arange(16), measured.cascades.mean(0))
    assert (without - first.mean(0)).min() > 0.075
    _, fine, relevant = gallery(more)
    scan = scan_hits(fine, relevant).mean()
    assert measured.foreseen_scan(more) == pytest.approx(scan, abs=0.04)
    assert measured.scan.mean() - scan > 0.1
