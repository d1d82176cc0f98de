"""Rank correlations against naive loops and scipy; intervals that hold what they say; the draw of architectures."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.search.rank import Estimate, certificate, kendall, resampled, spearman

stats = pytest.importorskip("scipy.stats")


def repeated(values, counts):
    return np.repeat(values, counts.astype(int))


def naive_tau(first, second):
    agreeing = told_first = told_second = 0
    for i in range(len(first)):
        for j in range(i):
            a, b = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
            agreeing += a * b
            told_first += a != 0
            told_second += b != 0
    return agreeing / np.sqrt(told_first * told_second) if told_first * told_second else np.nan


def naive_rho(first, second):
    ranks = []
    for values in (first, second):
        ranks.append(
            [sum(other < v for other in values) + (sum(other == v for other in values) + 1) / 2 for v in values]
        )
    if any(len(set(rank)) == 1 for rank in ranks):
        return np.nan
    return np.corrcoef(ranks)[0, 1]


@pytest.mark.parametrize("kinds", [2, 4, 1000])
@pytest.mark.parametrize("n", [3, 8, 25])
def test_both_agree_with_loops_and_scipy_with_ties_and_repeats(n, kinds):
    rng = np.random.default_rng(n * kinds)
    first, second = rng.integers(kinds, size=(2, n)).astype(float)
    counts = resampled(n)[:20]
    for taus, naive, theirs in (
        (kendall(first, second, counts), naive_tau, stats.kendalltau),
        (spearman(first, second, counts), naive_rho, stats.spearmanr),
    ):
        for value, row in zip(taus, counts, strict=True):
            x, y = repeated(first, row), repeated(second, row)
            assert value == pytest.approx(naive(x, y), nan_ok=True, abs=1e-12)
            if len(set(x)) > 1 and len(set(y)) > 1:
                assert value == pytest.approx(theirs(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_and_reversed_orders_are_so_in_every_resample(sign):
    alone = np.random.default_rng(0).random(12)
    result = certificate(sign * alone**3, alone, np.random.default_rng(1).random(12))
    for name in ("kendall", "spearman"):
        assert result[name] == {"value": pytest.approx(sign), "interval": pytest.approx([sign, sign])}


def test_an_order_by_size_is_found_out():
    rng = np.random.default_rng(0)
    mflops = rng.random(60)
    alone = mflops + 0.5 * rng.random(60)
    by_size = certificate(mflops + 1e-9 * rng.random(60), alone, mflops)
    assert by_size["kendall"]["value"] > 0.5
    low, high = by_size["gain"]["interval"]
    assert low <= 0 <= high
    knowing = certificate(alone + 0.05 * rng.random(60), alone, mflops)
    assert knowing["gain"]["interval"][0] > 0
    assert knowing["partial"]["value"] > 0.8


def test_partial_tau_is_kendalls():
    rng = np.random.default_rng(3)
    x, y, z = rng.random((3, 20))
    result = certificate(x, y, z)
    xy, yz, xz = (naive_tau(*pair) for pair in ((x, y), (z, y), (x, z)))
    expected = (xy - yz * xz) / np.sqrt((1 - yz**2) * (1 - xz**2))
    assert result["partial"]["value"] == pytest.approx(expected)
    assert result["gain"]["value"] == pytest.approx(xy - yz)


def test_the_top_half_is_of_those_best_alone():
    alone = np.arange(10.0)
    supernet = np.array([4, 3, 2, 1, 0, 5, 6, 7, 8, 9.0])
    result = certificate(supernet, alone, alone)
    assert result["top_half"]["n"] == 5
    assert result["top_half"]["kendall"]["value"] == 1
    assert result["kendall"]["value"] == pytest.approx(naive_tau(supernet, alone))


def test_every_number_of_a_certificate_is_scipys():
    """Of an odd number of architectures, the one in the middle is of the top half."""
    rng = np.random.default_rng(4)
    supernet, alone, mflops = rng.integers(20, size=(3, 31)).astype(float)
    result, best = certificate(supernet, alone, mflops), alone >= np.median(alone)
    pairs = {
        "whole": (result, supernet, alone),
        "cost": (result["cost"], mflops, alone),
        "top half": (result["top_half"], supernet[best], alone[best]),
    }
    for estimates, first, second in pairs.values():
        for name, reference in (("kendall", stats.kendalltau), ("spearman", stats.spearmanr)):
            assert estimates[name]["value"] == pytest.approx(reference(first, second).statistic, abs=1e-12)
            low, high = estimates[name]["interval"]
            assert low < estimates[name]["value"] < high
    assert (result["n"], result["top_half"]["n"]) == (31, sum(a >= sorted(alone)[15] for a in alone))


def test_what_all_ties_is_undefined_not_zero():
    flat, rng = np.full(6, 0.5), np.random.default_rng(0)
    result = certificate(flat, rng.random(6), rng.random(6))
    assert result["kendall"] == result["spearman"] == {"value": None, "interval": None}
    same_cost = certificate(rng.random(6), rng.random(6), flat)
    assert same_cost["kendall"]["value"] is not None
    assert same_cost["cost"]["kendall"]["value"] is None
    assert same_cost["gain"]["value"] is None


@pytest.mark.parametrize(("noise", "n"), [(np.inf, 30), (1.0, 30), (0.5, 60)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(noise, n):
    rng = np.random.default_rng(0)

    def drawn(size):
        truth = rng.normal(size=size)
        return truth, rng.normal(size=size) if noise == np.inf else truth + noise * rng.normal(size=size)

    correlation = 0 if noise == np.inf else 1 / np.sqrt(1 + noise**2)
    true_tau = 2 / np.pi * np.arcsin(correlation)
    counts = resampled(n)
    intervals = [Estimate.of(kendall(*drawn(n), counts)).interval for _ in range(200)]
    held = np.mean([low <= true_tau <= high for low, high in intervals])
    assert 0.90 <= held <= 0.985


def test_resamples_are_of_the_sample_and_always_the_same():
    counts = resampled(7)
    assert counts.shape[1] == 7
    assert (counts.sum(1) == 7).all()
    assert (counts[0] == 1).all()
    assert np.array_equal(counts, resampled(7))
