"""Every number of a verdict, against means over queries."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cmpnas.pipeline.verdicts import Bar, verdict
from cmpnas.retrieval import evaluate_scores


@pytest.fixture(scope="module")
def systems():
    """A pair, itself on both sides, the paragon and something else, each better or worse than the last."""
    rng = np.random.default_rng(0)
    labels, others = np.arange(60) % 6, np.arange(90) % 6
    right = labels[:, None] == others
    return [
        evaluate_scores((rng.normal(size=right.shape) + push * right), labels, others, metrics=["map@r", "hit@1"])
        for push in (1.0, 0.6, 1.6, 0.8)
    ]


def test_a_verdict_is_of_means_over_the_same_queries(systems):
    pair, own, paragon, other = systems
    told = verdict("q", pair, Bar(own, paragon, "map@r", 12.5), {"anchor": other})
    means = [system.per_query("map@r").mean() for system in systems]
    assert told["compatible"]
    assert told["paragon_gap"] == pytest.approx(means[2] - means[0])
    assert told["over_anchor"] == pytest.approx(means[0] - means[3])
    assert told["cost_reduction"] == 12.5
    gain, gap, over = (
        one.per_query("map@r") - two.per_query("map@r") for one, two in ((pair, own), (paragon, pair), (pair, other))
    )
    for name, difference in (("gain", gain), ("paragon_gap", gap), ("over_anchor", over)):
        half = 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
        expected = [difference.mean() - half, difference.mean() + half]
        assert told[f"{name}_interval"] == pytest.approx(expected, abs=0.25 * half)
    rng = np.random.default_rng(1)
    for name, difference in (("gain_p", gain), ("paragon_gap_p", gap)):
        flips = rng.choice([-1, 1], size=(4000, len(difference)))
        assert told[name] == pytest.approx((np.abs(flips @ difference) >= abs(difference.sum())).mean(), abs=0.02)
    points = [float(text) for text in re.findall(r"[-+]?\d+\.\d\d(?= points)", told["text"])]
    assert points == pytest.approx([100 * gain.mean(), 100 * gap.mean(), 100 * abs(over.mean())], abs=0.006)
    assert "12.5x cheaper than the paragon" in told["text"]
    assert "points below it" in told["text"]
    assert ("above" if over.mean() > 0 else "below") + " the anchor's index" in told["text"]


def test_a_worse_pair_is_not_compatible_and_may_be_above_its_paragon(systems):
    _, own, paragon, other = systems
    told = verdict("q", other, Bar(paragon, own, "hit@1", 2), {})
    assert not told["compatible"]
    assert told["text"].startswith("q: NOT compatible")
    assert told["paragon_gap"] == pytest.approx(own["hit@1"] - other["hit@1"])
    assert ("points above it" in told["text"]) == (told["paragon_gap"] <= 0)
