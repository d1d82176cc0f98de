"""The compatibility matrix on encoders whose relation is known."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval import compatibility_matrix


@pytest.fixture
def encoders():
    """One encoder, itself turned, turned back, a noisier one of the same space, one that knows nothing, a wider one."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, 16))
    labels = np.repeat(np.arange(50), 4)

    def side(noise):
        return centres[labels] + noise * rng.normal(size=(200, 16))

    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    query, gallery, noisy, noisy_gallery = side(0.4), side(0.4), side(0.8), side(0.8)
    return labels, {
        "a": (query, gallery),
        "b": (query @ turn, gallery @ turn),
        "back": (query @ turn @ turn.T, gallery),
        "small": (noisy, noisy_gallery),
        "chance": (rng.normal(size=(200, 16)), rng.normal(size=(200, 16))),
        "wide": (np.hstack([query, query]), np.hstack([gallery, gallery])),
    }


@pytest.fixture
def matrix(encoders):
    labels, known = encoders
    return compatibility_matrix(
        queries={name: pair[0] for name, pair in known.items()},
        galleries={name: pair[1] for name, pair in known.items()},
        query_labels=labels, gallery_labels=labels, metric="map@r",
    )  # fmt: skip


def test_a_rotated_copy_is_at_chance_and_the_inverse_brings_it_back(matrix):
    assert matrix["a", "a"] == pytest.approx(matrix["b", "b"])
    assert matrix["back", "a"] == pytest.approx(matrix["a", "a"])
    assert matrix["b", "a"] < 0.1 < 0.5 < matrix["a", "a"]
    assert not matrix.compatible("b", "a")
    assert matrix.paragon_gap("b", "a") > 0.5
    assert matrix.verdict("b", "a") == "spaces not aligned"
    assert matrix.verdict("a", "b") == "spaces not aligned"
    assert matrix.verdict("back", "a") == "a tie with M(q, q)"


def test_verdicts(matrix):
    assert matrix.verdict("small", "a") == "compatible"
    assert matrix.compatible("small", "a")
    assert 0 < matrix.update_gain("small", "a") < 1
    assert matrix.verdict("a", "small") == "not compatible"
    assert matrix.update_gain("a", "small") is None
    assert matrix.verdict("chance", "a") == "spaces not aligned"
    assert matrix.verdict("a", "a") == "homogeneous"
    assert ("wide", "a") not in matrix.scores
    assert ("wide", "wide") in matrix.scores


def test_quantities_by_their_formulas(matrix):
    q, g, pair = matrix["small", "small"], matrix["a", "a"], matrix["small", "a"]
    assert matrix.gain("small", "a").difference == pytest.approx(pair - q)
    assert matrix.paragon_gap("small", "a") == pytest.approx(g - pair)
    assert matrix.update_gain("small", "a") == pytest.approx((pair - q) / (g - q))
    low, high = matrix.interval("small", "a")
    assert low < pair < high


def test_unrelated_encoders_that_share_a_preferred_direction_are_not_aligned(encoders):
    labels, known = encoders
    queries = {"a": known["a"][0] + 3, "b": known["b"][0] + 3}
    galleries = {"a": known["a"][1] + 3, "b": known["b"][1] + 3}
    matrix = compatibility_matrix(
        queries=queries, galleries=galleries, query_labels=labels, gallery_labels=labels, metric="map@r"
    )
    assert matrix.verdict("b", "a") == "spaces not aligned"


def test_nothing_to_pair_is_named(encoders):
    labels, known = encoders
    with pytest.raises(DataError, match="nothing can be paired"):
        compatibility_matrix(
            queries={"a": known["a"][0]},
            galleries={"wide": known["wide"][1]},
            query_labels=labels,
            gallery_labels=labels,
        )
