"""An architecture scores the same alone and in any company, and as the plain chain of steps says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items, Protocol
from cmpnas.errors import DataError
from cmpnas.gallery.base import Indexed
from cmpnas.models import Supernet, calibrate
from cmpnas.retrieval import evaluate_retrieval
from cmpnas.search import evaluator as module
from cmpnas.search.evaluator import Evaluator, first_queries
from cmpnas.search.records import Proposal


def pictures(count: int, seed: int, size: int = 32) -> Items:
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=rng)
    return Items(ArrayImages(pixels), np.arange(count) % 7, np.arange(count) % 11, np.arange(count))


@pytest.fixture(scope="module")
def parts(small):
    torch.manual_seed(0)
    search = Protocol(pictures(70, 1), pictures(90, 2))
    vectors = np.random.default_rng(0).standard_normal((90, small.embedding_dim)).astype(np.float32)
    return Supernet(small).eval(), pictures(150, 3), search, {"g": Indexed(vectors)}


@pytest.fixture(scope="module")
def plan(small):
    drawn = small.sample_many(9, 0)
    return [Proposal(10 + i, drawn[i]) for i in range(9)]


def make(parts) -> Evaluator:
    return Evaluator(*parts, metric="map@r", calibration_images=140, homogeneous=True)


def test_a_record_is_what_the_steps_give_one_by_one(parts, plan):
    supernet, pool, search, galleries = parts
    n, arch, _ = plan[0]
    record = make(parts)(n, arch)
    network = calibrate(supernet.carve(arch), list(pool.sample_batches(128, 140)))
    with torch.inference_mode():
        query, gallery = (
            torch.cat([network(images) for images in items.float_batches(64)]).numpy()
            for items in (search.query, search.gallery)
        )

    def scores(against):
        sides = search.query, search.gallery
        labels, sources = [[getattr(side, name) for side in sides] for name in ("labels", "sources")]
        return evaluate_retrieval(query, against, *labels, ["map@r"], tuple(sources))

    found = record.galleries["g"]
    assert found.heterogeneous == pytest.approx(scores(galleries["g"].gallery)["map@r"], abs=1e-12)
    assert found.interval == pytest.approx(scores(galleries["g"].gallery).interval("map@r"), abs=1e-12)
    assert record.homogeneous == pytest.approx(scores(gallery)["map@r"], abs=1e-12)
    assert (record.n, record.arch, record.mflops) == (n, arch, supernet.space.cost(arch).mflops)


def test_company_changes_no_bit(parts, plan, monkeypatch):
    alone = [make(parts)(n, arch) for n, arch, _ in plan]
    sizes = []
    for limit in (16, 4):
        monkeypatch.setattr(module, "_TOGETHER", limit)
        groups = list(make(parts).together(plan))
        sizes.append([len(group) for group in groups])
        assert sorted((record for group in groups for record in group), key=lambda record: record.n) == alone
    assert sizes == [[9], [4, 4, 1]]
    monkeypatch.setattr(module, "_MEMORY", 1)  # no picture is kept and each comes by itself
    groups = list(make(parts).together(plan))
    assert sorted((record for group in groups for record in group), key=lambda record: record.n) == alone
    assert len(groups) == 9


def counting(items: Items) -> tuple[Items, list[int]]:
    """``items``, and the numbers of those that are read."""
    read: list[int] = []

    class Counting(ArrayImages):
        def read(self, indices):
            read.extend(indices)
            return super().read(indices)

    return Items(Counting(items.images.pixels), items.labels, items.sources, items.rows), read


def test_without_its_own_gallery_a_record_is_otherwise_the_same(parts, plan):
    supernet, pool, search, galleries = parts
    whole = {record.arch: record for group in make(parts).together(plan) for record in group}
    counted, read = counting(search.gallery)
    of_counted = Protocol(search.query, counted)
    evaluator = Evaluator(supernet, pool, of_counted, galleries, metric="map@r", calibration_images=140)
    for record in (record for group in evaluator.together(plan) for record in group):
        assert math.isnan(record.homogeneous)
        assert replace(record, homogeneous=whole[record.arch].homogeneous) == whole[record.arch]
    assert not read
    some = [proposal.arch for proposal in plan[2:6]]
    assert dict(evaluator.homogeneous(some)) == {arch: whole[arch].homogeneous for arch in some}


def test_pictures_are_read_once(parts, plan):
    supernet, pool, search, galleries = parts
    counted, read = counting(pool)
    evaluator = Evaluator(supernet, counted, search, galleries, metric="map@r", calibration_images=140)
    first = evaluator(*plan[0][:2])
    assert evaluator(*plan[0][:2]) == first
    assert len(read) == len(set(read)) == 140


class Wiping(nn.Module):
    """A network that writes over the pictures that it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images):
        found = self.network(images)
        images.zero_()
        return found


def test_what_a_network_writes_over_its_pictures_spoils_no_other(parts, plan):
    n, arch, _ = plan[0]
    evaluator = make(parts)
    expected = evaluator.judge(n, arch, parts[0].carve(arch))
    assert evaluator.judge(n, arch, Wiping(parts[0].carve(arch))) == expected
    assert evaluator.judge(n, arch, parts[0].carve(arch)) == expected


def test_the_first_queries_are_of_those_that_can_find_something(parts):
    task = parts[2]
    task = Protocol(replace(task.query, labels=np.where(np.arange(70) % 3, 99, task.query.labels)), task.gallery)
    known = [row for row in range(70) if row % 3 == 0]
    rows = first_queries(task, 0.3)
    assert len(set(rows)) == 21
    assert set(rows) <= set(known)
    assert rows.tolist() == sorted(rows)
    assert len(known) == 24
    assert len(first_queries(task, 24 / 70)) == 24
    with pytest.raises(DataError, match=r"after 25 of 70 queries, of which 24 have something to find"):
        first_queries(task, 25 / 70)
