"""Means, disagreement and rejection against naive loops; what cannot be combined is named."""

from __future__ import annotations

import csv
from itertools import combinations

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.gallery import ensemble
from cmpnas.gallery.ensemble import combine, rejected, write_rejected
from cmpnas.gallery.option_settings import EnsembleSettings, RejectSettings


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def drawn(members, n=50, d=7, seed=0):
    """Members that agree more on some images than on others."""
    rng = np.random.default_rng(seed)
    common, spread = rng.normal(size=(n, d)), np.linspace(0.01, 2, n)[:, None]
    return {f"m{k}": unit(common + spread * rng.normal(size=(n, d))).astype(np.float32) for k in range(members)}


@pytest.mark.parametrize("weights", [None, [2, 0.5], [1, 1, 1], [3, 0.1, 1.7], [1, 2, 3, 4, 5]])
def test_mean_and_disagreement_equal_naive_loops(weights, monkeypatch):
    monkeypatch.setattr(ensemble, "_ROWS_AT_ONCE", 16)
    known = drawn(len(weights or "ab"))
    of = dict(zip(known, weights or [1, 1], strict=True))
    mean, distance = combine(known, weights and of)
    for row in range(50):
        vectors = {name: known[name][row].astype(float) for name in known}
        total = sum(of[name] * vector for name, vector in vectors.items())
        assert mean[row] == pytest.approx(total / np.sqrt(total @ total), abs=1e-6)
        pairs = [(of[a] * of[b], 1 - vectors[a] @ vectors[b]) for a, b in combinations(known, 2)]
        expected = sum(weight * apart for weight, apart in pairs) / sum(weight for weight, _ in pairs)
        assert distance[row] == pytest.approx(expected, abs=1e-6)
    assert mean.dtype == distance.dtype == np.float32


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_weights_of_any_size(scale):
    known = drawn(3)
    mean, distance = combine(known, dict.fromkeys(known, 1.0))
    other, far = combine(known, dict.fromkeys(known, scale))
    assert other == pytest.approx(mean, abs=1e-6)
    assert far == pytest.approx(distance, abs=1e-6)


def test_only_ratios_of_weights_count():
    known = drawn(3)
    ones, tens = combine(known), combine(known, dict.fromkeys(known, 10.0))
    assert all(np.allclose(one, ten, atol=1e-6) for one, ten in zip(ones, tens, strict=True))


def test_members_may_be_memory_maps_and_so_may_the_mean(tmp_path):
    known = drawn(3)
    for name, vectors in known.items():
        np.save(tmp_path / f"{name}.npy", vectors)
    maps = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in known}
    into = np.lib.format.open_memmap(tmp_path / "mean.npy", mode="w+", dtype=np.float32, shape=(50, 7))
    combine(maps, into=into)
    assert np.array_equal(np.load(tmp_path / "mean.npy"), combine(known)[0])


def test_a_member_more_is_a_sum_more():
    """With five from the start, or a fifth that comes later: the other four are what they were."""
    known = drawn(5)
    four = {name: known[name] for name in list(known)[:4]}
    before = {name: vectors.copy() for name, vectors in four.items()}
    combine(four)
    later, _ = combine({**four, "m4": known["m4"]})
    assert np.array_equal(later, combine(known)[0])
    assert all(np.array_equal(four[name], before[name]) for name in four)


BAD = [
    ({"m1": lambda v: v[:-1]}, r"member 'm1' has vectors of shape \(49, 7\), member 'm0' of \(50, 7\); .* same images"),
    ({"m1": lambda v: unit(v[:, :5])}, r"shape \(50, 5\)"),
    ({"m1": lambda v: v[0]}, r"shape \(7,\)"),
    ({"m1": lambda v: np.where(np.arange(50)[:, None] == 31, np.nan, v)}, "member 'm1' holds NaN .* in row 31;"),
    ({"m1": lambda v: 2 * v}, "member 'm1' has a vector of length 2 in row 0; scale all to 1"),
    ({"m1": lambda v: v * 0}, "member 'm1' has a vector of length 0 in row 0"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_cannot_be_combined_is_named(changes, message, monkeypatch):
    monkeypatch.setattr(ensemble, "_ROWS_AT_ONCE", 16)
    known = {name: changes.get(name, lambda v: v)(vectors) for name, vectors in drawn(2).items()}
    with pytest.raises(DataError, match=message) as caught:
        combine(known)
    assert "\n" not in str(caught.value)


def test_members_that_cancel_out_and_an_ensemble_of_one():
    known = drawn(2)
    known["m1"][3] = -known["m0"][3]
    with pytest.raises(DataError, match="vectors of row 3 cancel out"):
        combine(known)
    with pytest.raises(DataError, match="an ensemble has two members or more; there is m0"):
        combine(drawn(1))
    with pytest.raises(DataError, match="there is none"):
        combine({})


def test_a_list_of_members_is_of_equals():
    def made(members):
        return EnsembleSettings(kind="ensemble", name="e", members=members)

    assert made(["b", "a"]) == made({"b": 1, "a": 1})
    assert list(made(["b", "a"]).members) == ["b", "a"]
    assert made({"a": 1, "b": 0.5}).members == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["a"], "two members or more; there are 1"),
        (["a", "a"], "'a' is na"),
        ({"a": 1}, "two members or more; there are 1"),
        ({"a": 1, "b": 0}, "greater than 0"),
        ({"a": 1, "b": float("inf")}, "finite"),
        ([1, 2], "a list of names, or names with weights"),
        ("ab", "a list of names, or names with weights"),
        ({"a": 1, "b": 1e-4}, "'a' weighs more than 1000 times what 'b' does"),
    ],
)
def test_settings_of_one_or_of_twins(members, message):
    with pytest.raises(ValueError, match=message):
        EnsembleSettings(kind="ensemble", name="e", members=members)


@pytest.mark.parametrize("coverage", [0.01, 0.5, 0.85, 0.9, 1.0])
def test_rejection_by_coverage_is_the_tail_of_the_sorted_distances(coverage):
    distance = np.random.default_rng(1).integers(0, 12, 40) / 10  # with ties
    out, limit = rejected(distance, RejectSettings(coverage=coverage))
    ranked = sorted(range(40), key=lambda row: (distance[row], row))
    keep = max(1, int(np.ceil(coverage * 40 - 1e-9)))
    assert out.tolist() == sorted(ranked[keep:])
    assert limit == max(distance[row] for row in ranked[:keep])


def test_rejection_by_value():
    distance = np.array([0.1, 0.3, 0.2, 0.5], np.float32)
    out, limit = rejected(distance, RejectSettings(distance=0.3))
    assert out.tolist() == [3]
    assert limit == pytest.approx(0.3)
    assert rejected(distance, RejectSettings(distance=2))[0].tolist() == []
    with pytest.raises(DataError, match=r"farther apart than 0\.05 on each of 4 images \(the least is 0\.1\); raise"):
        rejected(distance, RejectSettings(distance=0.05))


@pytest.mark.parametrize("rule", [{}, {"coverage": 0.5, "distance": 0.2}, {"coverage": 0}, {"distance": -1}])
def test_rules_that_are_none(rule):
    with pytest.raises(ValueError, match=r"either coverage or distance|greater than"):
        RejectSettings(**rule)


def test_the_file_of_what_was_rejected(tmp_path):
    write_rejected(tmp_path / "r.csv", np.array([1, 4]), np.array([101, 104]), np.array([0.5, 0.25], np.float32), 0.2)
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"row": "1", "item": "101", "distance": "0.5", "limit": "0.2"},
        {"row": "4", "item": "104", "distance": "0.25", "limit": "0.2"},
    ]
    write_rejected(tmp_path / "none.csv", *[np.empty(0, np.int64)] * 3, 0.2)
    assert (tmp_path / "none.csv").read_text() == "row,item,distance,limit\n"
