"""Risk and coverage against brute force: every subset is searched anew."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval import nearest, rejection
from cmpnas.retrieval.rejection import COVERAGES, rejection_curve, without


@pytest.fixture(params=[False, True], ids=["plain", "sources"])
def task(request):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(9, 6))
    ql, gl = rng.integers(0, 9, 30), rng.integers(0, 9, 60)
    noise = rng.uniform(0.2, 2.5, 60)
    query = centres[ql] + 0.7 * rng.normal(size=(30, 6))
    gallery = centres[gl] + noise[:, None] * rng.normal(size=(60, 6))
    sources = (rng.integers(0, 8, 30), rng.integers(0, 8, 60)) if request.param else None
    return (query, gallery, ql, gl), noise + 0.3 * rng.normal(size=60), sources


def brute_risk(about, kept, sources):
    """1 - hit@1 with nothing but ``kept`` in the gallery."""
    query, gallery, ql, gl = about
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (query, gallery)]
    hits = counted = 0
    for q in range(len(query)):
        allowed = [g for g in kept if sources is None or sources[0][q] != sources[1][g]]
        if any(gl[g] == ql[q] for g in allowed):
            counted += 1
            hits += gl[max(allowed, key=lambda g: float(unit[0][q] @ unit[1][g]))] == ql[q]
    return 1 - hits / counted


def test_each_risk_is_that_of_a_search_without_the_rejected(task, monkeypatch):
    monkeypatch.setattr(rejection, "_BLOCK", 60 * 7)
    about, uncertainty, sources = task
    found = rejection_curve(*about, uncertainty, sources)
    order = np.argsort(uncertainty)
    for coverage, risk in zip(COVERAGES, found.risk, strict=True):
        kept = order[: int(np.ceil(coverage * 60 - 1e-9))]
        assert risk == pytest.approx(brute_risk(about, kept, sources))
    assert found.areas["risk"] == pytest.approx(found.risk.mean())
    assert found.risk[-1] == found.oracle[-1] == pytest.approx(found.random[-1])


def test_of_too_many_similarities_a_part_of_the_queries_asks(task, monkeypatch):
    about, uncertainty, sources = task
    monkeypatch.setattr(nearest, "_MOST", 60 * 20)
    found = rejection_curve(*about, uncertainty, sources)
    asking = np.sort(np.random.default_rng(0).permutation(30)[:20])
    fewer = None if sources is None else (sources[0][asking], sources[1])
    expected = rejection_curve(about[0][asking], about[1], about[2][asking], about[3], uncertainty, fewer)
    for curve in ("risk", "random", "oracle"):
        assert np.array_equal(getattr(found, curve), getattr(expected, curve))


def test_chance_is_the_mean_of_many_draws(task):
    about, uncertainty, sources = task
    found = rejection_curve(*about, uncertainty, sources)
    rng = np.random.default_rng(1)
    for place in (0, 25, 45):
        drawn = [brute_risk(about, np.flatnonzero(rng.random(60) < COVERAGES[place]), sources) for _ in range(150)]
        error = np.std(drawn) / np.sqrt(len(drawn))
        assert found.random[place] == pytest.approx(np.mean(drawn), abs=4 * error + 0.005)


def test_the_oracle_is_best_noise_is_chance_and_an_informed_order_between(task):
    about, uncertainty, sources = task
    informed = rejection_curve(*about, uncertainty, sources)
    rng = np.random.default_rng(2)
    blind = [rejection_curve(*about, rng.random(60), sources).share for _ in range(30)]
    assert abs(np.mean(blind)) < 0.1
    assert max(blind) < 1
    assert 0.1 < informed.share < 1
    assert (informed.oracle <= informed.risk + 1e-12).mean() > 0.95


def test_the_same_queries_before_and_after(task):
    about, uncertainty, sources = task
    out = np.argsort(uncertainty)[35:]
    gained, before = without(*about, out, exclude=sources)
    kept = np.setdiff1d(np.arange(60), out)
    assert 1 - before - gained.difference == pytest.approx(brute_risk(about, kept, sources))
    query, gallery, ql, gl = about

    def has_answer(q):
        return any(gl[g] == ql[q] and (sources is None or sources[0][q] != sources[1][g]) for g in kept)

    left = [q for q in range(30) if has_answer(q)]
    assert len(left) == len(gained.gained)
    same = (query[left], gallery, ql[left], gl)
    assert 1 - before == pytest.approx(brute_risk(same, range(60), sources and (sources[0][left], sources[1])))
    ranked, first = without(*about, out, "map_full", sources)
    assert (len(ranked.gained), first) != (len(gained.gained), before)


def test_a_tie_with_something_wrong_is_a_miss():
    query, gallery = np.eye(2), np.array([[1.0, 0], [1, 0], [0, 1]])
    found = rejection_curve(query, gallery, np.arange(2), np.array([0, 9, 1]), np.array([0.0, 1, 0.5]))
    # Two of three stay up to two thirds of the gallery; without what ties, the first query hits.
    assert found.risk.tolist() == [0 if coverage * 3 <= 2 else 0.5 for coverage in COVERAGES]


def test_the_oracle_keeps_what_hits_rest_on():
    """Of four items, the first and the last are right; the others are between them, and none is to blame."""
    angles = np.array([1.2, 0.8, 0.4, 0.1])
    gallery = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = rejection_curve(np.array([[1.0, 0]]), gallery, np.array([0]), np.array([0, 5, 6, 0]), np.arange(4.0))
    assert found.oracle.tolist() == [0] * 51
    assert found.risk[0] == 1


def test_where_nothing_can_be_gained_there_is_no_share():
    found = rejection_curve(np.eye(3), np.eye(3), np.arange(3), np.arange(3), np.arange(3.0))
    assert found.areas == {"risk": 0, "random": 0, "oracle": 0}
    assert np.isnan(found.share)


def test_mistakes(task):
    about, uncertainty, sources = task
    with pytest.raises(DataError, match=r"60 gallery items but uncertainties of shape \(59,\)"):
        rejection_curve(*about, uncertainty[1:], sources)
    with pytest.raises(DataError, match="no query has a relevant item left; reject fewer"):
        without(*about, np.flatnonzero(np.isin(about[3], about[2])), exclude=sources)
    with pytest.raises(
        DataError, match="no query has a relevant item where 100% of the gallery stay; check labels and sources"
    ):
        rejection_curve(*about[:2], about[2] + 100, about[3], uncertainty, sources)
