"""The weight of a first stage's score: against scipy, how choices were made up, and where nothing is to be known."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.retrieval.cascade import candidates, mixed
from cmpnas.retrieval.planner import Measured, hits_by_k
from cmpnas.retrieval.weighing import learned_weight

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
    assert learned_weight(*chosen(a, b)) == pytest.approx(b / a, rel=0.15, abs=0.5)


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
    found = learned_weight(c[some], f[some], r[some])
    assert found == pytest.approx(best[1] / best[0], rel=0.02)


def test_units_of_either_score_do_not_matter():
    coarse, fine, right = chosen(0.4, 8.0)
    weight = learned_weight(coarse, fine, right)
    assert learned_weight(3 * coarse, fine, right) == pytest.approx(weight / 3, rel=1e-3)
    assert learned_weight(coarse - 7, 100 * fine + 5, right) == pytest.approx(100 * weight, rel=1e-3)


def test_a_coarse_score_that_misleads_or_says_nothing_weighs_nothing():
    coarse, fine, right = chosen(0.4, -2.0)
    assert learned_weight(coarse, fine, right) == 0
    assert learned_weight(coarse, fine, np.zeros_like(right)) == 0
    assert learned_weight(coarse, fine, np.ones_like(right)) == 0


def test_a_fine_score_that_says_nothing_leaves_the_order_to_the_coarse_one():
    coarse, fine, right = chosen(-0.2, 25.0)
    order = mixed(coarse, fine, weight=learned_weight(coarse, fine, right)).argmax(1)
    assert np.mean(order == coarse.argmax(1)) > 0.98
    perfect = np.where(right, 1.0, 0.0)  # nothing is left to learn, and no step too far
    assert learned_weight(coarse, perfect, right) < 1


def test_plans_are_made_of_both_scores():
    coarse, fine, right = chosen(0.4, 8.0)
    measured = Measured.of(coarse, fine, right, 10)
    assert measured.weight == learned_weight(*candidates(coarse, 10, coarse, fine, right)[1:]) > 10
    both = fine + measured.weight * coarse
    assert measured.cascades.tolist() == hits_by_k(*candidates(coarse, 10, both, right)[1:]).tolist()
    assert measured.scan.tolist() == np.take_along_axis(right, both.argmax(1)[:, None], 1)[:, 0].tolist()
    alone = np.take_along_axis(right, fine.argmax(1)[:, None], 1)
    assert measured.scan.mean() > alone.mean() + 0.05
