"""Which sources of a fusion say nothing."""

from __future__ import annotations

import threading
import time
from statistics import NormalDist

import numpy as np
import pytest
import torch

from cmpnas.data.images import ArrayImages
from cmpnas.data.items import UNLABELLED, Items
from cmpnas.errors import DataError
from cmpnas.gallery import audition
from cmpnas.gallery.audition import hear
from cmpnas.gallery.bank import Bank
from cmpnas.gallery.fusion import fill_bank
from cmpnas.gallery.sources import FeatureSource

N = 300


def items_of(labels, first=0):
    rows = np.arange(first, first + len(labels))
    return Items(ArrayImages(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)), np.asarray(labels), None, rows)


def bank_of(folder, items, **features):
    """A bank of global features, rows in the order of ``items``."""

    def looking(values):
        return lambda _, indices: [torch.from_numpy(values[indices]).float()[:, None]]

    sources = [FeatureSource(name, ("global",), 1.0, name, looking(values)) for name, values in features.items()]
    return fill_bank(folder, sources, items, "data")


@pytest.fixture
def mixed():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, N)
    centres = rng.normal(size=(10, 20))
    return labels, {
        "clear": centres[labels] + 0.1 * rng.normal(size=(N, 20)),
        "faint": centres[labels] + 2.5 * rng.normal(size=(N, 20)),
        "noise": rng.normal(size=(N, 500)),
    }


def test_hits_are_those_of_a_loop_and_noise_is_silent(mixed, tmp_path):
    labels, features = mixed
    items = items_of(labels, first=7)
    bank = bank_of(tmp_path / "bank", items, **features)
    found = {heard.source: heard for heard in hear(bank, bank.names, items)}
    pairs = [(a, b) for a in range(N) for b in range(N) if a != b]
    chance = np.mean([labels[a] == labels[b] for a, b in pairs])
    for name, (values,) in zip(features, ([part] for part in bank.read(items.rows)), strict=True):
        unit = values[:, 0].numpy().astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        hits = 0
        for query in range(N):
            others = [row for row in range(N) if row != query]
            hits += labels[max(others, key=lambda row, query=query: unit[query] @ unit[row])] == labels[query]
        assert found[name].hit == pytest.approx(hits / N)
        assert found[name].chance == pytest.approx(chance)
    assert [found[name].silent for name in ("clear", "faint", "noise")] == [False, False, True]
    assert found["clear"].hit > 0.95


def test_a_picture_of_which_a_source_says_nothing_is_missed(tmp_path):
    rng, labels = np.random.default_rng(0), np.arange(N) % 10
    values = np.eye(10)[labels] + 0.01 * rng.normal(size=(N, 10))
    silent = values.copy()
    silent[: N // 4] = 0
    items = items_of(labels)
    bank = bank_of(tmp_path / "bank", items, whole=values, partly=silent, nothing=np.zeros((N, 3)))
    found = {heard.source: heard for heard in hear(bank, bank.names, items)}
    assert [found[name].hit for name in ("whole", "partly", "nothing")] == [1, pytest.approx(1 - (N // 4) / N), 0]
    assert found["nothing"].silent


def test_runs_that_share_a_bank_wait_for_each_other(tmp_path):
    """Both begin on an empty folder; the second finds what the first has written."""
    items, at, told = items_of(np.zeros(40)), threading.Barrier(2), []

    def looking(name):
        def look(_, indices):
            told.append(name)
            time.sleep(0.05)
            return [torch.full((len(indices), 1, 3), 7.0)]

        return look

    def fill(name):
        at.wait()
        sources = [FeatureSource(key, ("global",), 1.0, key, looking(name)) for key in ("a", "b")]
        assert fill_bank(tmp_path / "bank", sources, items, "data").names == ("a", "b")

    both = [threading.Thread(target=fill, args=(name,)) for name in ("first", "second")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(set(told)) == 1
    read = Bank.open(tmp_path / "bank").read(items.rows)
    assert len(read) == 2
    assert all((part == part[0, 0, 0]).all() and part[0, 0, 0] > 0 for part in read)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot keep features in .*; name another gallery\.bank"):
        fill_bank(tmp_path / "file", [], items, "data")


def test_pictures_too_few_to_tell_silence_nobody(tmp_path):
    rng = np.random.default_rng(1)
    items = items_of([0, 0, 1, 1, 2, 2, 3])
    bank = bank_of(tmp_path / "bank", items, clear=np.eye(4)[items.labels], noise=rng.normal(size=(7, 8)))
    assert [heard.silent for heard in hear(bank, bank.names, items)] == [False, False]
    single = items_of([0, 1, 2, UNLABELLED, UNLABELLED, 3, 4])
    assert hear(bank, bank.names, single) == []


def test_of_many_pictures_whole_classes_are_heard(mixed, tmp_path, monkeypatch):
    labels, features = mixed
    items = items_of(labels)
    bank = bank_of(tmp_path / "bank", items, clear=features["clear"])
    monkeypatch.setattr(audition, "_PICTURES", 100)
    heard = hear(bank, bank.names, items)[0]
    rows, taken = audition._some_classes(items)
    assert 50 < len(rows) <= 100
    for label in np.unique(taken):
        assert (taken == label).sum() == (labels == label).sum()
    assert np.array_equal(labels[rows], taken)
    counts = np.bincount(taken)
    assert heard.chance == pytest.approx((counts * (counts - 1)).sum() / len(rows) / (len(rows) - 1))
    monkeypatch.setattr(audition, "_OF_CLASS", 9)  # of large classes a part, and so more classes
    rows, taken = audition._some_classes(items)
    assert np.array_equal(labels[rows], taken)
    assert sorted(np.unique(taken, return_counts=True)[1]) == [9] * 10
    assert max(np.searchsorted(rows, np.flatnonzero(labels == 0)[-1]), 0) > 9  # not the first nine


def test_of_many_classes_not_the_first_ones_alone_are_heard(monkeypatch):
    monkeypatch.setattr(audition, "_PICTURES", 100)
    taken = np.unique(audition._some_classes(items_of(np.repeat(np.arange(50), 10)))[1])
    assert len(taken) == 10
    assert taken.max() >= 25 > taken.min()


@pytest.mark.parametrize(("share", "n"), [(0.0, 30), (0.2, 5), (0.5, 12), (0.97, 400), (1.0, 7)])
def test_the_interval_is_of_what_the_share_is_no_more_than_two_deviations_from(share, n):
    """The ends solve (p - share)^2 = z^2 p (1 - p) / n: the deviation is that of p, not of the share."""
    z2 = NormalDist().inv_cdf(0.975) ** 2
    roots = np.roots([1 + z2 / n, -2 * share - z2 / n, share**2])
    assert audition._wilson(share, n) == pytest.approx(tuple(sorted(roots)), abs=1e-6)


def test_a_few_large_classes_are_heard_together(tmp_path):
    """Ten classes of 900: any five of them are more than are heard, were they whole."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(10), 900)
    items = items_of(labels)
    noise = rng.normal(size=(9000, 8))
    bank = bank_of(tmp_path / "bank", items, clear=np.eye(10)[labels] + 0.1 * rng.normal(size=(9000, 10)), noise=noise)
    heard = hear(bank, bank.names, items)
    assert [one.silent for one in heard] == [False, True]
    assert heard[0].chance == pytest.approx(255 / 2559)


def test_where_all_are_silent_none_is_left_out(mixed, tmp_path):
    labels, features = mixed
    items = items_of(labels)
    bank = bank_of(tmp_path / "bank", items, noise=features["noise"])
    assert hear(bank, bank.names, items) == []


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_silent_whatever_was_drawn(seed, tmp_path):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 29, 956)
    items = items_of(labels)
    bank = bank_of(tmp_path / "bank", items, clear=np.eye(29)[labels] + 0.1, noise=rng.normal(size=(956, 64)))
    assert [heard.silent for heard in hear(bank, bank.names, items)] == [False, True]
