"""What one system finds that another does not, against naive counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items, Protocol
from cmpnas.gallery.base import Indexed
from cmpnas.pipeline.answers import Answers, below_the_mean
from cmpnas.retrieval import nearest
from cmpnas.search.evaluator import score_pair

METRICS = ["map@r", "hit@1"]


def items(labels, sources):
    pixels = torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8)
    return Items(ArrayImages(pixels), labels, sources, np.arange(len(labels)))


def unit(rng, n):
    vectors = rng.normal(size=(n, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("sourced", [True, False])
def test_answers_and_hubs_are_those_of_naive_lists(sourced):
    rng = np.random.default_rng(0)
    labels, others = np.arange(40) % 8, np.arange(120) % 8
    sources = (np.arange(40) % 5, np.arange(120) % 9) if sourced else (None, None)
    task = Protocol(items(labels, sources[0]), items(others, sources[1]))
    index = Indexed(unit(rng, 120), rejected=np.array([3, 50, 51]))
    kept = np.delete(np.arange(120), index.rejected)
    right, hubs, answers = [], [], []
    for query in (unit(rng, 40), unit(rng, 40)):
        answers.append(Answers.of(score_pair(query, index.gallery, task, METRICS, index.rejected), query, index, task))
        lists = []
        for q in range(40):
            found = sorted(kept, key=lambda g: -query[q] @ index.gallery[g])
            lists.append([g for g in found if not sourced or sources[1][g] != sources[0][q]][:10])
        right.append([others[found[0]] == label for found, label in zip(lists, labels, strict=True)])
        hubs.append(np.bincount(np.concatenate(lists), minlength=120)[kept])
    told = below_the_mean(*answers, METRICS)
    pair, paragon = np.array(right)
    assert told["overlap"] == {
        "metric": "hit@1", "both": (pair & paragon).mean(), "only_first": (pair & ~paragon).mean(),
        "only_second": (~pair & paragon).mean(), "neither": (~pair & ~paragon).mean(),
    }  # fmt: skip
    for name, places in zip(("pair", "paragon"), hubs, strict=True):
        assert told["hubness"][name]["orphans"] == pytest.approx((places == 0).mean())
        assert told["hubness"][name]["top_percent"] == pytest.approx(places.max() / places.sum())  # 1% of 117 is one
    assert f"the pair alone {100 * (pair & ~paragon).mean():.1f}%" in told["text"]


def test_of_many_a_part_of_the_queries_says_how_evenly(monkeypatch):
    rng = np.random.default_rng(0)
    task = Protocol(items(np.arange(40) % 8, np.arange(40) % 5), items(np.arange(120) % 8, np.arange(120) % 9))
    query, index = unit(rng, 40), Indexed(unit(rng, 120))
    monkeypatch.setattr(nearest, "_MOST", 120 * 25)
    found = Answers.of(score_pair(query, index.gallery, task, METRICS, None), query, index, task)
    assert found.hubness.occurrences.sum() == 25 * 10
    assert found.scores.n_queries == 40


def test_without_a_hit_there_is_no_overlap():
    rng = np.random.default_rng(0)
    task = Protocol(items(np.arange(5), None), items(np.arange(5), None))
    query, index = unit(rng, 5), Indexed(unit(rng, 5))
    answers = Answers.of(score_pair(query, index.gallery, task, ["map@r"], None), query, index, task)
    told = below_the_mean(answers, answers, ["map@r"])
    assert told["overlap"] is None
    assert told["text"].startswith("10 nearest")
