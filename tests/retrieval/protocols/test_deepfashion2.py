"""DeepFashion2: the official JSON files, both modes by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval.protocols import DeepFashion2
from cmpnas.retrieval.protocols.deepfashion2 import box_overlap

QUERY = [
    {"query_image_id": 1, "style": 1, "cls": 1, "pair_id": 5, "bbox": [0, 0, 10, 10]},
    {"query_image_id": 1, "style": 2, "cls": 2, "pair_id": 5, "bbox": [20, 0, 30, 10]},
    {"query_image_id": 1, "style": 0, "cls": 3, "pair_id": 5, "bbox": [40, 0, 50, 10]},
    {"query_image_id": 2, "style": 1, "cls": 1, "pair_id": 6, "bbox": [0, 0, 10, 10]},
    {"query_image_id": 3, "style": 1, "cls": 1, "pair_id": 7, "bbox": [0, 0, 10, 10]},
]
GALLERY = [
    {"gallery_image_id": 11, "style": 1, "pair_id": 5, "bbox": [0, 0, 10, 10]},
    {"gallery_image_id": 12, "style": 2, "pair_id": 5, "bbox": [0, 0, 10, 10]},
    {"gallery_image_id": 13, "style": 1, "pair_id": 6, "bbox": [0, 0, 10, 10]},
    {"gallery_image_id": 14, "style": 0, "pair_id": 5, "bbox": [0, 0, 10, 10]},
]


@pytest.fixture
def truth(tmp_path):
    (tmp_path / "val_query.json").write_text(json.dumps(QUERY))
    (tmp_path / "val_gallery.json").write_text(json.dumps(GALLERY))
    return DeepFashion2.read(tmp_path)


def detection(image, box, cls, score, retrieved):
    """Twenty retrieved boxes; those given first, the rest of an image that is nobody's."""
    rest = 20 - len(retrieved)
    return {
        "query_image_id": image, "query_bbox": box, "query_cls": cls, "query_score": score,
        "gallery_image_id": [name for name, _ in retrieved] + [99] * rest,
        "gallery_bbox": [place for _, place in retrieved] + [[0, 0, 10, 10]] * rest,
    }  # fmt: skip


def test_crops_by_hand(truth):
    query = np.eye(6)[[0, 1, 2, 2, 3]]
    gallery = np.array([[1.0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0.5, 0, 0, 1], [0, 0, 1, 0, 0, 0]])
    # Queries: items 0, 1, 3, 4. 0 and 1 are found first; 3 finds style 0 of another pair first, its own second;
    # 4 has nothing to find and counts as missed.
    lines = {line.metric: line for line in truth.gt_crop(query, gallery)}
    assert lines["hit@1"].value == 2 / 4
    assert lines["hit@5"].value == 3 / 4
    assert lines["hit@1"].queries == 4


def test_detections_by_hand(truth, tmp_path):
    at, shifted, off = [0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4]
    results = [
        # Two detections of item 0: the surer one speaks, its second box is right.
        detection(1, [0, 0, 10, 9], 1, 0.5, [(11, at)]),
        detection(1, [0, 0, 9, 10], 1, 0.9, [(12, at), (11, shifted)]),
        # The surest of all is of the wrong class and speaks for nobody.
        detection(1, [0, 0, 10, 10], 2, 0.99, [(11, at)]),
        # Item 1: right image, but the boxes overlap too little, then right at the sixth place.
        detection(1, [20, 0, 30, 10], 2, 0.8, [(12, off)] * 5 + [(12, at)]),
        # Item 3 (image 2): never right. Item 4 (image 3): not detected.
        detection(2, at, 1, 0.8, []),
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    found = {line.metric: line.value for line in truth.detected(path)}
    assert found == {"hit@1": 0, "hit@5": 1 / 4, "hit@10": 2 / 4, "hit@15": 2 / 4, "hit@20": 2 / 4}


def test_the_names_of_the_official_repository_are_read(truth, tmp_path):
    (tmp_path / "val_query.json").rename(tmp_path / "query_gt.json")
    (tmp_path / "val_gallery.json").rename(tmp_path / "gallery_gt.json")
    assert DeepFashion2.read(tmp_path) == truth


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_bbox": None}, "0.query_bbox: Input should be a valid tuple"),
        ({"query_bbox": [1, 2, 3]}, "0.query_bbox.3: Field required"),
        ({"query_image_id": "1"}, "0.query_image_id: Input should be a valid integer"),
        ({"query_score": "0.5"}, "0.query_score: Input should be a valid number"),
        ({"gallery_image_id": [1]}, "detection 0 has 1 gallery_image_id and 20 gallery_bbox"),
        ({"gallery_image_id": [], "gallery_bbox": []}, "detection 0 has 0 gallery_image_id and 0"),
    ],
)
def test_wrong_detections_are_named(truth, tmp_path, change, message):
    (tmp_path / "results.json").write_text(json.dumps([detection(1, [0, 0, 1, 1], 1, 0.5, []) | change]))
    with pytest.raises(DataError, match=message):
        truth.detected(tmp_path / "results.json")
    with pytest.raises(DataError, match="cannot be read"):
        truth.detected(tmp_path)


def test_overlap():
    boxes = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5]])
    assert box_overlap(boxes, boxes) == pytest.approx(np.array([[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 0]]))


def test_wrong_files_are_named(truth, tmp_path):
    with pytest.raises(DataError, match="2 query embeddings; the file lists 5 items"):
        truth.gt_crop(np.ones((2, 3)), np.ones((4, 3)))
    (tmp_path / "val_query.json").write_text(json.dumps([{"query_image_id": 1}]))
    with pytest.raises(DataError, match=r"val_query.json: 0.style: Field required \(4 such mistakes\)"):
        DeepFashion2.read(tmp_path)
    (tmp_path / "val_query.json").write_text(json.dumps([item | {"style": 0} for item in QUERY]))
    with pytest.raises(DataError, match="so there is no query"):
        DeepFashion2.read(tmp_path)
    (tmp_path / "val_query.json").write_text("[{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        DeepFashion2.read(tmp_path)
    (tmp_path / "val_query.json").unlink()
    with pytest.raises(DataError, match=r"has 0 files \*query\*.json"):
        DeepFashion2.read(tmp_path)
