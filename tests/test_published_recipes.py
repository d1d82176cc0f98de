"""Recipes of published data sets: a few steps of each on files in the official layout, and the splits of real data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cmpnas.data import load_splits
from cmpnas.pipeline.evaluate import evaluate
from cmpnas.pipeline.search import search
from cmpnas.pipeline.train import train_pick
from cmpnas.recipe import load_recipe
from cmpnas.retrieval import evaluate_retrieval
from cmpnas.retrieval.similarity import unit_rows
from tests.official import write_deepfashion2, write_gldv2, write_identities

#: Overrides that shrink a recipe for accelerators to seconds on one core.
FEW_STEPS = (
    "workers=0",
    "data.size=32",
    "gallery.space=resnet_small",
    "gallery.arch=smallest",
    "gallery.embedding_dim=16",
    *(f"{stage}.epochs=0.01" for stage in ("gallery.train", "query.supernet", "query.train")),
    *(f"{stage}.batch_size=8" for stage in ("gallery.train", "query.supernet", "query.train")),
    "search.calibration_images=8",
    "search.population=4",
    "search.trials=2",
)


def quiet(_: str) -> None: ...


def counts(splits) -> list[int]:
    tasks = splits.search, splits.test
    return [len(splits.train), len(splits.pool), *(len(side) for task in tasks for side in (task.query, task.gallery))]


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        # 8 of 10 pairs train: 4 pictures x 2 items with a style, and 2 without; the other two pairs are searched.
        ("deepfashion2", write_deepfashion2, [8 * 8, 8 * 10, 2 * 4, 2 * 6, 3 * 4, 3 * 6]),
        # Numbers 0 and 200 are searched, 100 is tested: of six faces, those numbered 0 and 4 are queries.
        ("ijbc", write_identities, [199, 199, 2 * 2, 2 * 4, 2, 4]),
        # Landmarks 0 and 200 are searched, 100 and 300 tested: five pictures each.
        ("gldv2", write_gldv2, [8 * 5, 8 * 5, 2 * 2, 2 * 3, 2 * 2, 2 * 3]),
    ],
)
def test_a_few_steps_from_official_files_to_a_front(tmp_path, name, write, expected):
    recipe = load_recipe(name, FEW_STEPS)
    data = tmp_path / "data"
    write(data / recipe.data.folder)
    splits = load_splits(recipe.data, str(data))
    assert counts(splits) == expected
    assert not set(splits.train.labels) & (set(splits.search.query.labels) | set(splits.test.query.labels))
    assert set(splits.search.query.labels) <= set(splits.search.gallery.labels)
    front = search(recipe, tmp_path / "run", data=str(data), say=quiet)
    assert front["metric"] == recipe.search.metric
    assert 1 <= len(front["pairs"]) <= 2
    train_pick(tmp_path / "run", "best", data=str(data), say=quiet)
    result = evaluate(tmp_path / "run", data=str(data), say=quiet)
    assert (result["queries"], result["gallery_items"]) == tuple(expected[4:])
    assert set(result["metrics"]) == {recipe.search.metric, *recipe.report}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "trained", "searched", "queries", "gallery", "scored"),
    [
        ("grocery", 1754, [410, 427], 1277, 1341, 1277),
        ("emoji", 2489, [344, 265], 896, 632, 893),  # three of one emoji have nothing to find
    ],
)
def test_splits_of_real_data(data_root, name, trained, searched, queries, gallery, scored):
    splits = load_splits(load_recipe(name).data, str(data_root))
    assert counts(splits) == [trained, trained, *searched, queries, gallery]
    seen, asked = set(splits.train.labels), set(splits.test.query.labels) | set(splits.test.gallery.labels)
    held_out = set(splits.search.query.labels) | set(splits.search.gallery.labels)
    assert not seen & held_out
    assert not asked & (seen | held_out)
    test = splits.test
    made_up = [
        unit_rows(np.random.default_rng(0).normal(size=(len(side), 4)), "test") for side in (test.query, test.gallery)
    ]
    scores = evaluate_retrieval(*made_up, test.query.labels, test.gallery.labels, ["hit@1"])
    assert (scores.n_queries, scores.n_excluded) == (scored, queries - scored)
