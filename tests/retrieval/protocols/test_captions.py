"""Image-text retrieval: both file formats, plain loops over a score table, folds, and COCO's real captions."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval.protocols import Captions


def karpathy(n, captions=5):
    def image(i, split):
        sentences = [
            {"raw": f"caption {c} of {i}", "tokens": [], "imgid": i, "sentid": 9 * i + c} for c in range(captions)
        ]
        return {"filename": f"{i}.jpg", "imgid": i, "split": split, "sentids": [], "sentences": sentences}

    images = [image(i, "test") for i in range(n)] + [image(n, "train")]
    return {"images": images, "dataset": "flickr30k"}


def by_loops(scores):
    """As published evaluations do it: rows are images, captions 5i to 5i + 4 belong to image i."""
    n = len(scores)
    i2t = [
        min(sorted(range(5 * n), key=lambda c: -row[c]).index(5 * i + k) for k in range(5))
        for i, row in enumerate(scores)
    ]
    t2i = [sorted(range(n), key=lambda i: -scores[i, c]).index(c // 5) for c in range(5 * n)]
    return {
        (part, name): value
        for part, ranks in (("image to text", i2t), ("text to image", t2i))
        for name, value in (
            *((f"hit@{k}", np.mean(np.array(ranks) < k)) for k in (1, 5, 10)),
            ("medr", np.floor(np.median(ranks)) + 1),
        )
    }


def test_karpathy_file_against_loops(tmp_path):
    path = tmp_path / "dataset_flickr30k.json"
    path.write_text(json.dumps(karpathy(30, captions=6)))
    truth = Captions.read(path)
    assert (len(truth.image_ids), len(truth.captions)) == (30, 150)
    assert truth.captions[5] == "caption 0 of 1"
    scores = np.random.default_rng(0).normal(size=(30, 150))
    expected = by_loops(scores)
    found = {(line.part, line.metric): line.value for line in truth.results_of_scores(scores)}
    for key, value in expected.items():
        assert found[key] == pytest.approx(value), key
    total = 100 * sum(value for (_, name), value in expected.items() if name.startswith("hit"))
    assert found["both", "rsum"] == pytest.approx(total)


def test_embeddings_and_their_cosines_agree(tmp_path):
    path = tmp_path / "k.json"
    path.write_text(json.dumps(karpathy(12)))
    truth = Captions.read(path)
    rng = np.random.default_rng(0)
    images, captions = rng.normal(size=(12, 8)), rng.normal(size=(60, 8))
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, captions)]
    first, second = truth.results(images, captions), truth.results_of_scores(unit[0] @ unit[1].T)
    assert [line.value for line in first] == pytest.approx([line.value for line in second])


def test_five_folds_are_the_mean_of_folds(tmp_path):
    """Images that find their captions within their own fold alone: every other image of a later fold answers first."""
    n = 5000
    truth = Captions([str(i) for i in range(n)], [""] * (5 * n), np.repeat(np.arange(n), 5))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(n, 16)).astype(np.float32)
    captions = np.repeat(images, 5, axis=0) + 0.5 * rng.normal(size=(5 * n, 16)).astype(np.float32)
    found = {(line.part, line.metric): line.value for line in truth.results(images, captions)}
    folds = []
    for start in range(0, n, 1000):
        part = Captions(truth.image_ids[:1000], truth.captions[:5000], truth.image_of[:5000])
        lines = part.results(images[start : start + 1000], captions[5 * start : 5 * start + 5000])
        folds.append({(f"1K {line.part}", line.metric): line.value for line in lines})
    for key in folds[0]:
        assert found[key] == pytest.approx(np.mean([fold[key] for fold in folds])), key
    assert found["1K image to text", "hit@1"] > found["image to text", "hit@1"]


def test_coco_captions_are_real(data_root):
    truth = Captions.read(data_root / "coco_captions" / "captions_val2017.json.gz")
    assert (len(truth.image_ids), len(truth.captions)) == (5000, 25_000)
    assert (np.bincount(truth.image_of) == 5).all()
    raw = json.loads(gzip.decompress((data_root / "coco_captions" / "captions_val2017.json.gz").read_bytes()))
    own = [note["caption"] for note in raw["annotations"] if str(note["image_id"]) == truth.image_ids[77]]
    assert truth.captions[5 * 77 : 5 * 77 + 5] == own[:5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "neither a Karpathy nor a COCO"),
        ('{"images": [{"name": "a"}]}', "neither a Karpathy nor a COCO"),
        (json.dumps(karpathy(0)), "has no image of split 'test'"),
        (json.dumps(karpathy(2, captions=4)), "image '0.jpg' has 4 captions; the protocol needs 5"),
        (json.dumps({"images": karpathy(1)["images"] * 2}), "names '0.jpg' more than once"),
        ('{"images"', "cannot be read as JSON"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, message):
    (tmp_path / "k.json").write_text(content)
    with pytest.raises(DataError, match=message):
        Captions.read(tmp_path / "k.json")
