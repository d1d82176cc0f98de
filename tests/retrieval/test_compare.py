"""Intervals, paired comparisons and diagnostics against closed forms and naive loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import skew

from cmpnas.errors import DataError
from cmpnas.retrieval import evaluate_scores
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.compare import Comparison, compare
from cmpnas.retrieval.diagnostics import hit_overlap, hubness, risk_coverage


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = [low <= 0.3 <= high for low, high in (interval((rng.random(200) < 0.3).astype(float)) for _ in range(200))]
    assert 0.90 <= np.mean(held) <= 0.985


def test_intervals_of_hits_many_values_and_many_queries_agree():
    rng = np.random.default_rng(0)
    for n in (500, 30_000):
        hits, other = (rng.random(n) < 0.3).astype(float), rng.random(n)
        for values in (hits, other):
            low, high = interval(values)
            half = 1.96 * values.std() / np.sqrt(n)
            assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.12 * half)
    rare = (np.arange(30_000) < 2).astype(float)
    assert interval(rare)[0] >= 0
    with pytest.raises(DataError, match="nothing to take a mean of"):
        interval(np.empty(0))


def hits(*found):
    """Scores of queries that find their item first, or not."""
    scores = np.array([[2.0, 1.0] if hit else [1.0, 2.0] for hit in found])
    return evaluate_scores(scores, np.zeros(len(found), int), np.array([0, 1]), ["hit@1", "map_full"])


def test_comparison_against_all_sign_flips():
    first, second = hits(1, 1, 1, 1, 1, 1, 0, 1, 1, 0), hits(0, 0, 0, 0, 0, 1, 1, 1, 0, 0)
    got = compare(first, second, "hit@1")
    gained = first.per_query("hit@1") - second.per_query("hit@1")
    assert (got.difference, got.wins, got.losses) == (pytest.approx(0.5), 6, 1)
    moved = gained[gained != 0]
    every = [abs(np.dot(signs, moved)) >= abs(moved.sum()) for signs in product((-1, 1), repeat=len(moved))]
    assert got.p_value == pytest.approx(np.mean(every), abs=0.015)
    assert got.interval[0] < 0.5 < got.interval[1]
    assert not got.tie
    same = compare(first, first, "hit@1")
    assert (same.difference, same.p_value, same.tie) == (0, 1, True)


def test_no_p_value_is_zero():
    assert compare(hits(*[1] * 40), hits(*[0] * 40), "hit@1").p_value == 1 / 10_001


def test_sums_that_rounding_alone_parts_are_equal():
    """In tenths, which floats do not hold: most of the sign assignments as far from 0 are so by equality."""
    tenths = [1, 2, 3, -1, 6, 7]
    every = [abs(np.dot(signs, tenths)) >= abs(sum(tenths)) for signs in product((-1, 1), repeat=6)]
    assert Comparison(np.array(tenths) / 10).p_value == pytest.approx(np.mean(every), abs=0.015)
    assert Comparison(np.array([0.1, 0.2, -0.3] * 3)).p_value == 1


def test_false_alarms_are_as_rare_as_the_p_value_says():
    rng = np.random.default_rng(1)
    alarms = [
        compare(hits(*(rng.random(60) < 0.5)), hits(*(rng.random(60) < 0.5)), "hit@1").p_value for _ in range(150)
    ]
    assert np.mean(np.array(alarms) < 0.1) < 0.17


def test_systems_that_count_other_queries_cannot_be_compared():
    other = evaluate_scores(np.ones((3, 2)), np.array([0, 5, 0]), np.array([0, 1]), ["hit@1"])
    for call in (compare, hit_overlap):
        with pytest.raises(DataError, match="do not count the same queries"):
            call(other, hits(1, 1, 0), "hit@1")


def test_overlap_of_hits():
    got = hit_overlap(hits(1, 1, 0, 0, 1), hits(1, 0, 1, 0, 1))
    assert got == pytest.approx({"both": 0.4, "only_first": 0.2, "only_second": 0.2, "neither": 0.2})
    with pytest.raises(DataError, match="map_full is not hit or miss"):
        hit_overlap(hits(1, 0), hits(0, 1), "map_full")


def test_hubness_by_hand_and_by_scipy():
    nearest = np.array([[0, 1], [0, 2], [0, 1], [0, 3]])
    got = hubness(nearest, 6)
    assert got.occurrences.tolist() == [4, 2, 1, 1, 0, 0]
    assert got.skewness == pytest.approx(skew([4, 2, 1, 1, 0, 0]))
    assert got.orphans == pytest.approx(2 / 6)
    assert got.top_percent == pytest.approx(4 / 8)
    assert hubness(np.arange(4)[:, None], 4).skewness == 0
    assert hubness(np.array([[0, -1], [1, -1]]), 2).occurrences.tolist() == [1, 1]
    with pytest.raises(DataError, match="rows 0 to 2"):
        hubness(nearest, 3)


def test_risk_coverage_by_hand():
    """Losses 0 0 1 1, most certain first: risks 0, 0, 1/3, 1/2."""
    got = risk_coverage(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1]))
    assert got.risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert got.coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert got.area == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert got.excess == pytest.approx(0)
    reverse = risk_coverage(-np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1]))
    assert reverse.area == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)
    assert reverse.excess == pytest.approx(reverse.area - got.area)


def test_equal_uncertainties_are_kept_as_if_at_random():
    rng = np.random.default_rng(0)
    uncertainty, loss = np.array([1, 1, 1, 2, 2]), np.array([0.0, 1, 1, 0, 1])
    got = risk_coverage(uncertainty, loss)
    drawn = []
    for _ in range(4000):
        order = np.lexsort((rng.random(5), uncertainty))
        drawn.append(np.cumsum(loss[order]) / np.arange(1, 6))
    assert got.risk == pytest.approx(np.mean(drawn, 0), abs=0.03)


@pytest.mark.parametrize(
    ("uncertainty", "loss", "message"),
    [([1, 2], [1], "must be as long"), ([], [], "not empty"), ([1, np.nan], [0, 1], "NaN or infinity")],
)
def test_bad_curves_are_named(uncertainty, loss, message):
    with pytest.raises(DataError, match=message):
        risk_coverage(np.array(uncertainty), np.array(loss))
