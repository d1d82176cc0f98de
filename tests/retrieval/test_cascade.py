"""The cascade against sorting by hand, on vectors of texts or pictures; the planner against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cmpnas.errors import CmpnasError
from cmpnas.retrieval import GalleryIndex
from cmpnas.retrieval.cascade import Cascade, Encoded, candidates, cascade_table
from cmpnas.retrieval.planner import Measured, Times, plan, scan_hits

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


def test_equal_scores_stay_equal():
    coarse = np.array([[0.9, 0.9, 0.7, 0.5, 0.5, 0.1]])
    fine = np.array([[1.0, 3.0, 3.0, 9.0, 9.0, 9.0]])
    table = cascade_table(coarse, fine, 3)[0]
    assert table[1] == table[2] > table[0] > table[3] == table[4] > table[5]
    assert (np.argsort(-cascade_table(coarse, fine, 6)[0], kind="stable") == [3, 4, 5, 1, 2, 0]).all()


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
        ((3, "weighted", float("inf")), "weigh inf"),
    ],
)
def test_what_a_cascade_cannot_be(arguments, message):
    with pytest.raises(CmpnasError, match=message):
        Cascade(None, None, *arguments)


def test_candidates_are_the_nearest_and_hits_those_of_the_best(tables):
    coarse, fine = tables
    relevant = np.random.default_rng(2).random((Q, N)) < 0.2
    nearest, scores = candidates(coarse, 30, fine)
    assert (nearest == np.argsort(-coarse, axis=1)[:, :30]).all()
    assert (scores == np.take_along_axis(fine, nearest, 1)).all()
    assert candidates(coarse, 2 * N)[0].shape == (Q, N)
    assert (scan_hits(fine, relevant) == [relevant[q, np.argmax(fine[q])] for q in range(Q)]).all()
    assert not scan_hits(np.zeros((1, 3)), np.array([[True, True, False]]))[0]  # who is not right wins a tie


TIMES = Times(text=0.5, dot=0.0001, base=1.0, fine=0.02)


def test_times_are_fitted_and_add_up():
    cascades = [(k, 0.5 + 0.1 + 1.0 + 0.02 * k) for k in (1, 10, 100)]
    fitted = Times.fit(0.5, (1000, 0.1), cascades)
    assert fitted.to_json() == pytest.approx(TIMES.to_json())
    assert fitted.cascade(1000, 50) == pytest.approx(0.5 + 0.1 + 1 + 1)
    assert fitted.scan(1000) == pytest.approx(21)


def test_the_line_of_times_errs_least_in_relation_to_each():
    optimize = pytest.importorskip("scipy.optimize")
    counts, spent = np.array([1, 10, 100, 400]), np.array([2.0, 1.7, 4.5, 9.0])

    def error(line):
        return (((line[0] + line[1] * counts) / spent - 1) ** 2).sum()

    whole, slope = optimize.minimize(error, [1, 0.02], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    fitted = Times.fit(0.5, (1000, 0.1), list(zip(counts, spent, strict=True)))
    assert (fitted.base, fitted.fine) == pytest.approx((whole - 0.6, slope), rel=1e-4)
    assert (fitted.text, fitted.dot) == (0.5, 0.0001)


def test_no_part_takes_less_than_no_time():
    assert Times.fit(0.5, (1000, 0.1), [(1, 0.3), (10, 0.39), (100, 1.29)]).base == 0
    assert Times.fit(0.5, (1000, 0.1), [(1, 2.0), (10, 1.9), (100, 1.8)]).fine == 0


def found(share: float, queries: int = 1000) -> np.ndarray:
    return np.arange(queries) < share * queries


def measured(n: int, *forgone: float, share: float = 0.5, of_half: float = 0.5) -> Measured:
    """In all of a gallery, by default as in half of it."""
    return Measured(n, found(share), found(of_half).astype(float), np.array(forgone), 1.0, 0.3)


def test_the_smallest_k_near_enough_is_planned():
    few = measured(1000, 0.2, 0.1, 0.05, 0.004, 0.0, 0.0)
    planned = plan(few, TIMES, 1000, within=0.005)
    assert (planned.k, planned.binding, planned.scan_hit, planned.weight) == (4, "accuracy", 0.5, 0.3)
    assert planned.hit == pytest.approx(0.496)
    assert planned.interval[0] < planned.hit < planned.interval[1]
    assert planned.milliseconds == pytest.approx(0.5 + 0.1 + 1 + 0.08)
    assert planned.speedup == pytest.approx(21 / planned.milliseconds)
    assert plan(few, TIMES, 1000, within=0).k == 5
    short = plan(measured(1000, 0.2, 0.1, 0.05), TIMES, 1000, within=0.005)
    assert (short.k, short.binding) == (3, "nothing")


def test_a_larger_gallery_needs_proportionally_more_candidates():
    of_101 = measured(101, *[0.4] * 9, *[0.0] * 91)
    assert plan(of_101, TIMES, 101, within=0.005).k == 10
    assert plan(of_101, TIMES, 1001, within=0.005).k == 1 + 9 * 10
    assert plan(of_101, TIMES, 251, within=0.005).k == 24  # 1 + 9 * 2.5, whole
    assert 5 <= plan(of_101, TIMES, 51, within=0.005).k <= 6


def test_more_pictures_of_the_same_things_are_no_harder_and_take_longer():
    of_101 = measured(101, *[0.4] * 9, *[0.0] * 91, of_half=0.6)
    same = plan(of_101, TIMES, 101, within=0.005)
    more = plan(of_101, TIMES, 1001, within=0.005, right=1001 / 101)
    assert (more.k, more.hit, more.scan_hit, more.n) == (same.k, same.hit, same.scan_hit, 1001)
    assert more.milliseconds == pytest.approx(same.milliseconds + 900 * TIMES.dot)
    assert plan(of_101, TIMES, 1001, within=0.005).hit < more.hit - 0.1
    whole = plan(of_101, TIMES, 40, within=0.005, right=40 / (101 * 20))
    assert (whole.k, whole.hit) == (40, whole.scan_hit)


def test_time_limits_the_candidates_or_is_refused():
    few = measured(1000, 0.2, 0.1, 0.1, 0.05, 0.0)
    planned = plan(few, TIMES, 1000, within=0, max_milliseconds=1.6 + 0.061)
    assert (planned.k, planned.binding) == (2, "latency")  # 3 would fit and bring nothing
    with pytest.raises(CmpnasError, match=r"takes 1.62 ms with a single candidate of 1000; the limit is 1.5 ms"):
        plan(few, TIMES, 1000, within=0, max_milliseconds=1.5)


def test_candidates_that_take_no_time_are_not_limited_by_it():
    planned = plan(measured(1000, 0.2, 0.1, 0.0), replace(TIMES, fine=0.0), 1000, within=0, max_milliseconds=1.7)
    assert (planned.k, planned.binding, planned.milliseconds) == (3, "accuracy", pytest.approx(1.6))


def test_no_share_of_hits_is_below_nothing():
    planned = plan(measured(1000, 0.03, share=0.04), TIMES, 1000, within=0.05)
    assert planned.interval[0] == 0 < planned.hit < planned.interval[1]
    assert plan(measured(1000, 0.05, share=0.04), TIMES, 1000, within=0.05).hit == 0


def test_halves_in_which_all_or_nothing_is_found_foretell_half_a_query():
    """All but half a query of a thousand, so that there are odds."""
    all_of_half, most = measured(100, 0.0, share=0.5, of_half=1.0), 0.9995
    odds = 1 / (most / (1 - most)) ** 2  # two doublings
    assert all_of_half.found_in(400)[0] == pytest.approx(odds / (1 + odds))
    everything, nothing = (measured(100, 0.0, share=share, of_half=share) for share in (1.0, 0.0))
    assert (everything.found_in(400)[0], nothing.found_in(400)[0]) == (1, 0)


def test_a_larger_gallery_is_never_easier():
    """Where half of a gallery happened to be harder than all of it."""
    found_in = measured(100, 0.0, share=0.5, of_half=0.4).found_in
    assert found_in(400) == found_in(100)
    assert found_in(400)[0] == 0.5


def test_a_budget_of_multiply_adds_limits_the_candidates_or_is_refused():
    few = measured(1000, 0.2, 0.1, 0.1, 0.05, 0.0)
    planned = plan(few, TIMES, 1000, within=0, most=3)
    assert (planned.k, planned.binding) == (2, "mflops")  # 3 would fit and bring nothing
    assert plan(few, TIMES, 1000, within=0, most=2, max_milliseconds=1.6 + 0.021).binding == "latency"
    assert plan(few, TIMES, 1000, within=0, most=10).binding == "accuracy"
    with pytest.raises(CmpnasError, match=r"spent before one candidate of 1000 is looked at; raise search.budget_"):
        plan(few, TIMES, 1000, within=0, most=0)


def counted(coarse: np.ndarray, final: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """The share of hits of a cascade, query by query."""
    hits = 0
    for c, f, r in zip(coarse, final, relevant, strict=True):
        nearest = np.argpartition(-c, k - 1)[:k]
        hits += bool(r[nearest[np.argmax(f[nearest])]])
    return hits / len(coarse)


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

    known = Measured.of(*gallery(n), np.arange(n), 16)
    for size in (n // 2, n, more):
        coarse, fine, relevant = gallery(size)
        final = fine + known.weight * coarse
        scan, forgone = known.found_in(size)[0], known.forgone_in(size)
        assert np.diff(forgone).max() < 1e-6
        assert scan == pytest.approx(scan_hits(final, relevant).mean(), abs=0.04)
        for k in range(1, len(forgone) + 1):
            # One candidate is one of any gallery, and of a smaller one it forgoes less than is thought.
            off = 0.06 if size == more or (size < n and k == 1) else 0.03
            assert scan - forgone[k - 1] == pytest.approx(counted(coarse, final, relevant, k), abs=off)
    assert known.scan.mean() - scan_hits(final, relevant).mean() > 0.1  # without foresight


def test_it_is_more_things_that_make_a_gallery_harder():
    """130 things of seven pictures each foretell 1,040 of them; as pictures that come and go alone they do not."""
    rng, each, few, many, queries = np.random.default_rng(1), 7, 130, 1040, 1500

    def gallery(things):
        of = np.repeat(np.arange(things), each)
        wanted = rng.integers(things, size=queries)
        ease = rng.normal(3.0, 1.0, (queries, 1))
        alike = rng.normal(size=(queries, things)) + ease * (np.arange(things) == wanted[:, None])
        fine = alike[:, of] + rng.normal(0, 0.2, (queries, len(of)))
        return fine, fine, wanted[:, None] == of[None], of

    known, (fine, _, relevant, of) = Measured.of(*gallery(few), 20), gallery(many)
    truth = scan_hits(fine, relevant).mean()
    assert known.found_in(len(of))[0] == pytest.approx(truth, abs=0.08)
    alone = Measured.of(*gallery(few)[:3], np.arange(few * each), 20)
    assert alone.found_in(len(of))[0] > truth + 0.1
