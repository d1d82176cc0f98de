"""Recipes of published caption sets: a few steps of each, to the final table, on files in the official layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.pipeline.crisp.evaluate import evaluate_text
from cmpnas.pipeline.crisp.finish import train_text_pick
from cmpnas.pipeline.crisp.retrieve import retrieve
from cmpnas.pipeline.crisp.search import search_text
from cmpnas.recipe import load_any_recipe
from cmpnas.text.karpathy import load_karpathy

pytest.importorskip("tokenizers")
FEW_STEPS = (
    "fine.text={vocabulary: 80, width: 16, mixer: gru, layers: 1}", "fine.dim=16", "fine.similarity=8",
    "fine.negatives=3",
    "coarse.space={vocabulary: [64, 80], width: [8, 16], layers: 1, heads: 2, ratio: 1}", "coarse.dim=16",
    *(f"{part}={{epochs: 1, batch_size: 8, lr: 0.001}}" for part in ("fine.train", "coarse.supernet", "coarse.train")),
    "search.trials=3", "search.population=4", "search.ks=[2, 4]", "search.queries=20",
)  # fmt: skip
COUNTS = {"train": 16, "dev": 6, "test": 8}
WORDS = ["two", "dogs", "run", "over", "wet", "grass", "while", "a", "man", "in", "red", "throws", "blue", "balls"]


def quiet(_: str) -> None: ...


def sentences(split: str, n: int) -> list[str]:
    rng = np.random.default_rng([len(split), n])
    return [" ".join(rng.choice(WORDS, 6)) for _ in range(5)]


def write_regions(folder: Path, split: str, name: str, repeated: int) -> None:
    regions = np.random.default_rng(len(split)).normal(size=(COUNTS[split], 36, 2048)).astype(np.float32)
    np.save(folder / f"{name}_ims.npy", regions.repeat(repeated, 0))


def write_flickr30k(folder: Path) -> None:
    """Karpathy's JSON; regions of the evaluation splits stand five times, as in SCAN's files."""
    images = [
        {"filename": f"{split}{n}.jpg", "split": {"dev": "val"}.get(split, split),
         "sentences": [{"raw": text} for text in sentences(split, n)]}
        for split, count in COUNTS.items()
        for n in range(count)
    ]  # fmt: skip
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"dataset": "flickr30k", "images": images}))
    for split in COUNTS:
        write_regions(folder, split, split, 1 if split == "train" else 5)


def write_coco(folder: Path) -> None:
    """Five lines an image."""
    for split, name in (("train", "train"), ("dev", "dev"), ("test", "testall")):
        lines = [text for n in range(COUNTS[split]) for text in sentences(split, n)]
        (folder / f"{name}_caps.txt").write_text("\n".join(lines) + "\n")
        write_regions(folder, split, name, 5)


@pytest.mark.parametrize(("name", "write"), [("flickr30k", write_flickr30k), ("coco", write_coco)])
def test_a_few_steps_from_official_files_to_the_final_table(tmp_path, name, write):
    (tmp_path / name).mkdir()
    write(tmp_path / name)
    recipe = load_any_recipe(name, FEW_STEPS)
    front = search_text(recipe, tmp_path / "run", data=str(tmp_path), say=quiet)
    assert all(pair["k"] in (2, 4) for pair in front["pairs"])
    train_text_pick(tmp_path / "run", "cheapest", data=str(tmp_path), say=quiet)
    result = evaluate_text(tmp_path / "run", data=str(tmp_path), say=quiet)
    assert (result["queries"], result["gallery_items"]) == (20, 8)
    json.dumps(result, allow_nan=False)
    answer = retrieve(tmp_path / "run", "two dogs", show=3, data=str(tmp_path), say=quiet)
    assert answer["sheet"] is None  # region features and no pictures
    assert [line["rank"] for line in answer["found"]] == [1, 2, 3]
    before = load_karpathy(recipe.data, str(tmp_path)).fingerprint
    other = np.load(tmp_path / name / recipe.data.test.regions)
    np.save(tmp_path / name / recipe.data.test.regions, other[::-1])
    assert load_karpathy(recipe.data, str(tmp_path)).fingerprint != before
    for wrong, message in (
        (np.full_like(other, np.nan), "hold NaN or infinity"), (other[..., :9], "'test': 9} features cannot be"),
        (other[:, :0], "region features are floats"), (other[:10], "has regions of 10 images, the captions are of 8"),
    ):  # fmt: skip
        np.save(tmp_path / name / recipe.data.test.regions, wrong)  # told although nobody opens the test split
        with pytest.raises(DataError, match=message):
            search_text(recipe, tmp_path / "again", data=str(tmp_path), say=quiet)
    mixed = recipe.data.model_copy(update={"search": recipe.data.train})
    np.save(tmp_path / name / recipe.data.test.regions, other)
    with pytest.raises(DataError, match="16 images are in both train and search; the splits must not share any"):
        load_karpathy(mixed, str(tmp_path))
    if name == "flickr30k":
        some = recipe.data.model_copy(update={"train": recipe.data.train.model_copy(update={"split": None})})
        with pytest.raises(DataError, match="holds several splits; name one as split: test, train, val"):
            load_karpathy(some, str(tmp_path))
        content = json.loads((tmp_path / name / "dataset_flickr30k.json").read_text())
        content["images"][0]["sentences"][2]["raw"] = None
        (tmp_path / name / "dataset_flickr30k.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match="None is no caption; every one must be a text"):
            load_karpathy(recipe.data, str(tmp_path))
        write(tmp_path / name)
    np.save(tmp_path / name / "train_ims.npy", np.zeros((4, 36, 2048), np.float32))
    with pytest.raises(DataError, match="has regions of 4 images, the captions are of 16"):
        search_text(recipe, tmp_path / "again", data=str(tmp_path), say=quiet)
