"""The weight of a first stage's score: against scipy, how choices were made up, and where nothing is to be known."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.retrieval.cascade import candidates
from cmpnas.retrieval.planner import Measured, plan, scan_hits
from cmpnas.retrieval.weighing import Odds

Q, N = 3000, 40


def chosen(a: float, b: float, several: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two kinds, and the picture that each query drew by ``softmax(a fine + b coarse)``, or some of them."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 0.2, (Q, N))
    fine = rng.normal(3, 5, (Q, N)) + 10 * coarse
    drawn = a * fine + b * coarse + rng.gumbel(size=(Q, N))
    right = drawn >= np.sort(drawn, 1)[:, [-3 if several else -1]]
    return coarse.astype(np.float32), fine.astype(np.float32), right


@pytest.mark.parametrize(("a", "b"), [(0.4, 8.0), (1.0, 1.0), (0.05, 12.0)])
def test_how_choices_were_made_is_found_out(a, b):
    odds = Odds.learned(*chosen(a, b))
    assert odds.scale == pytest.approx(a, rel=0.1)
    assert odds.weight == pytest.approx(b / a, rel=0.15, abs=0.5)


@pytest.mark.parametrize("several", [False, True])
def test_no_other_weight_makes_right_pictures_likelier(several):
    optimize = pytest.importorskip("scipy.optimize")
    coarse, fine, right = chosen(0.3, 6.0, several)
    _, c, f, r = candidates(coarse, 12, coarse, fine, right)
    says = [row for row in range(Q) if 0 < r[row].sum() < 12]

    def unlikely(weights: np.ndarray) -> float:
        total = 0.0
        for row in says[:400]:
            tables = weights[0] * f[row] + weights[1] * c[row]
            total -= np.mean([tables[place] - np.log(np.exp(tables).sum()) for place in np.flatnonzero(r[row])])
        return total

    best = optimize.minimize(unlikely, [0.1, 1.0], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6}).x
    some = says[:400] + [row for row in range(Q) if r[row].sum() in (0, 12)]  # these say nothing
    found = Odds.learned(c[some], f[some], r[some])
    assert (found.scale, found.weight) == pytest.approx((best[0], best[1] / best[0]), rel=0.02)


def test_units_of_either_score_do_not_matter():
    coarse, fine, right = chosen(0.4, 8.0)
    odds = Odds.learned(coarse, fine, right)
    assert Odds.learned(3 * coarse, fine, right).weight == pytest.approx(odds.weight / 3, rel=1e-3)
    other = Odds.learned(coarse - 7, 100 * fine + 5, right)
    assert (other.scale, other.weight) == pytest.approx((odds.scale / 100, odds.weight * 100), rel=1e-3)


def test_a_coarse_score_that_misleads_or_says_nothing_weighs_nothing():
    coarse, fine, right = chosen(0.4, -2.0)
    odds = Odds.learned(coarse, fine, right)
    assert odds.weight == 0
    assert odds.scale == pytest.approx(Odds.learned(0 * coarse, fine, right).scale, rel=1e-3)
    assert odds.scale > 0.2
    assert Odds.learned(coarse, fine, np.zeros_like(right)) == Odds(0, 0)
    assert Odds.learned(coarse, fine, np.ones_like(right)) == Odds(0, 0)


def test_a_fine_score_that_says_nothing_leaves_the_order_to_the_coarse_one():
    coarse, fine, right = chosen(-0.2, 25.0)
    order = Odds.learned(coarse, fine, right).final(coarse, fine).argmax(1)
    assert np.mean(order == coarse.argmax(1)) > 0.98
    perfect = np.where(right, 1.0, 0.0)  # nothing is left to learn, and no step too far
    assert Odds.learned(coarse, perfect, right).weight < 1


def test_plans_are_made_of_both_scores():
    coarse, fine, right = chosen(0.4, 8.0)
    measured = Measured.of(coarse, fine, right, np.arange(N), 10)
    assert measured.weight == Odds.learned(*candidates(coarse, 10, coarse, fine, right)[1:]).weight > 10
    both = fine + measured.weight * coarse
    assert measured.scan.tolist() == np.take_along_axis(right, both.argmax(1)[:, None], 1)[:, 0].tolist()
    alone = np.take_along_axis(right, fine.argmax(1)[:, None], 1)
    assert measured.scan.mean() > alone.mean() + 0.05


def forgone_by_hand(odds: Odds, coarse: np.ndarray, fine: np.ndarray, right: np.ndarray) -> list[float]:
    """Chances of the best of all less those of the best candidate, query by query."""
    total = np.zeros(coarse.shape[1])
    for c, f, r in zip(coarse.astype(float), fine.astype(float), right, strict=True):
        final = odds.scale * (f + odds.weight * c)
        chances = np.minimum(r.sum() * np.exp(final) / np.exp(final).sum(), 1)
        nearest = np.argsort(-c)
        total += [chances.max() - chances[nearest[: k + 1]].max() for k in range(len(c))]
    return list(total / len(coarse))


@pytest.mark.parametrize("several", [False, True])
def test_what_is_forgone_is_what_chances_say(several):
    coarse, fine, right = (table[:50] for table in chosen(0.2, 4.0, several))
    odds = Odds.learned(coarse, fine, right)
    final = odds.final(coarse, fine)
    found = odds.forgone(final, candidates(coarse, N, final)[1], right.sum(1)).mean(0)
    assert found == pytest.approx(forgone_by_hand(odds, coarse, fine, right), abs=1e-5)
    assert (np.diff(found) <= 1e-7).all()
    assert found[-1] == 0


def counted(odds: Odds, coarse: np.ndarray, fine: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What cascades of 1 to N candidates miss of the hits of all, counted one by one."""
    final = odds.final(coarse, fine)
    order = np.argsort(-coarse, axis=1)
    hits = [
        [r[o[: k + 1]][np.argmax(f[o[: k + 1]])] for k in range(N)]
        for f, o, r in zip(final, order, right, strict=True)
    ]  # fmt: skip
    shares = np.mean(hits, 0)
    return shares[-1] - shares


def test_few_queries_say_what_is_forgone_better_than_they_count_it():
    """300 queries at a time, against what 3,000 count: the error of chances, and of hits."""
    coarse, fine, right = chosen(0.4, 8.0)
    odds = Odds.learned(coarse, fine, right)
    truth = counted(odds, coarse, fine, right)
    assert Measured.of(coarse, fine, right, np.arange(N), N).forgone == pytest.approx(truth, abs=0.01)
    errors = []
    for own in np.split(np.arange(Q), 10):
        few = coarse[own], fine[own], right[own]
        errors.append([Measured.of(*few, np.arange(N), N).forgone - truth, counted(odds, *few) - truth])
    of_chances, of_hits = (np.square(errors).mean(0) ** 0.5)[:, :12].mean(1)
    assert of_chances < 0.7 * of_hits


def test_where_the_fine_model_knows_nothing_one_candidate_is_planned():
    from cmpnas.retrieval.planner import Times

    coarse, fine, right = chosen(-0.2, 25.0)
    found = plan(Measured.of(coarse, fine, right, np.arange(N), N), Times(1, 0, 1, 1), N, within=0.005)
    assert found.k == 1
    assert scan_hits(fine, right).mean() < found.hit


def test_scores_that_are_no_numbers_end_in_no_endless_search():
    coarse, fine, right = (table[:20] for table in chosen(0.4, 8.0))
    fine[3, 4] = np.nan
    assert Odds.learned(coarse, fine, right).weight == 0


@pytest.mark.parametrize("deepest", [1, 10])
def test_a_coarse_score_without_a_right_candidate_forgoes_everything(deepest):
    """None of what it proposes is right, so nothing can be learned from that; it is no perfect one for it."""
    rng, n = np.random.default_rng(3), 400
    right = np.zeros((60, n), bool)
    right[np.arange(60), rng.integers(n, size=60)] = True
    fine = (rng.normal(size=right.shape) + 6 * right).astype(np.float32)
    coarse = (rng.normal(size=right.shape) - 6 * right).astype(np.float32)
    measured = Measured.of(coarse, fine, right, np.arange(n), deepest)
    assert measured.scan.mean() > 0.9
    assert measured.scan.mean() - measured.forgone[-1] < 0.05


def test_a_constant_fine_score_leaves_the_order_to_the_coarse_one():
    coarse, _, right = chosen(0.0, 25.0)
    fine = np.full_like(coarse, 14.3)
    final = Odds.learned(coarse, fine, right).final(coarse, fine)
    assert np.mean(final.argmax(1) == coarse.argmax(1)) > 0.98
