"""DeepFashion2 consumer-to-shop (Ge et al., CVPR 2019): on given crops, or on an own detector's boxes.

Ground truth is a folder with the official ``val_query.json`` and ``val_gallery.json`` (lists of items with image id,
``pair_id``, ``style``, ``bbox``). Queries are items of style above 0; the right gallery items have the same pair and
style. Gallery items of style 0 stay in, as distractors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.evaluate import evaluate_retrieval
from cmpnas.retrieval.protocols.result import Result, results

TOPS = (1, 5, 10, 15, 20)
_IOU = 0.5


@dataclass(frozen=True)
class DeepFashion2:
    """Items as the files list them."""

    query: list[dict[str, Any]]
    gallery: list[dict[str, Any]]

    @staticmethod
    def read(folder: Path) -> DeepFashion2:
        """``*_query.json`` and ``*_gallery.json`` of a folder.

        Raises:
            DataError: a file is missing, damaged, or an item lacks a field.
        """
        keys = ("style", "pair_id", "bbox")
        return DeepFashion2(
            _read_items(_only(folder, "query"), ("query_image_id", "cls", *keys)),
            _read_items(_only(folder, "gallery"), ("gallery_image_id", *keys)),
        )

    @property
    def counted(self) -> np.ndarray:
        """Rows of the query items that are queries."""
        return np.flatnonzero([item["style"] > 0 for item in self.query])

    def gt_crop(self, query: np.ndarray, gallery: np.ndarray) -> list[Result]:
        """Hit rates of embeddings of the items' own boxes, each in the order of its file."""
        names = [f"hit@{k}" for k in TOPS]
        for side, embeddings, items in (("query", query, self.query), ("gallery", gallery, self.gallery)):
            if len(embeddings) != len(items):
                raise DataError(f"{len(embeddings)} {side} embeddings; the file lists {len(items)} items.")
        labels = [
            np.array([f"{item['pair_id']} {item['style']}" for item in side]) for side in (self.query, self.gallery)
        ]
        chosen = self.counted
        scores = evaluate_retrieval(
            np.asarray(query)[chosen], gallery, labels[0][chosen], labels[1], names, empty="zero"
        )
        return results("gt-crop", scores, names)

    def detected(self, path: Path) -> list[Result]:
        """Hit rates of a result file in the official form (``query_bbox``, ``query_cls``, ``query_score``,
        ``gallery_image_id`` and ``gallery_bbox`` of twenty each).

        A detection stands for the ground-truth item that it overlaps most, if its class is right; of several the
        most certain; an item without one is missed. A retrieved box is right if it overlaps a right gallery item of
        its image by at least half.
        """
        fields = ("query_image_id", "query_bbox", "query_cls", "query_score", "gallery_image_id", "gallery_bbox")
        found: dict[int, list[dict[str, Any]]] = {}
        for result in _read_items(path, fields):
            found.setdefault(result["query_image_id"], []).append(result)
        right: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for item in self.gallery:
            right.setdefault((item["pair_id"], item["style"]), []).append(item)
        in_image: dict[int, list[dict[str, Any]]] = {}
        for item in self.query:
            in_image.setdefault(item["query_image_id"], []).append(item)
        first = [
            _first_right(best, right.get((item["pair_id"], item["style"]), []))
            for image, items in in_image.items()
            for item, best in zip(items, _representatives(items, found.get(image, [])), strict=True)
            if item["style"] > 0
        ]
        hits = {k: (np.array(first) <= k).astype(np.float64) for k in TOPS}
        return [Result("detected", f"hit@{k}", float(v.mean()), interval(v), len(v)) for k, v in hits.items()]


def _representatives(items: list[dict[str, Any]], detections: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """The detection that stands for each item of an image."""
    if not detections:
        return [None] * len(items)
    overlap = box_overlap(_boxes(detections, "query_bbox"), _boxes(items, "bbox"))
    best: list[dict[str, Any] | None] = [None] * len(items)
    for detection, number in zip(detections, overlap.argmax(1).tolist(), strict=True):
        held = best[number]
        if detection["query_cls"] == items[number]["cls"] and (
            held is None or detection["query_score"] > held["query_score"]
        ):
            best[number] = detection
    return best


def _first_right(detection: dict[str, Any] | None, right: list[dict[str, Any]]) -> float:
    """1-based place of the first right box retrieved, infinity if there is none."""
    if detection is None or not right:
        return np.inf
    overlap = box_overlap(_boxes([detection], "gallery_bbox")[0], _boxes(right, "bbox"))
    images = np.array([item["gallery_image_id"] for item in right])
    same = np.array(detection["gallery_image_id"])[:, None] == images[None]
    hits = np.flatnonzero((same & (overlap >= _IOU)).any(1))
    return float(hits[0] + 1) if len(hits) else np.inf


def box_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (x1, y1, x2, y2): ``(A, 4)`` and ``(B, 4)`` to ``(A, B)``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _boxes(items: list[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([item[key] for item in items], np.float64)


def _only(folder: Path, side: str) -> Path:
    found = sorted(folder.glob(f"*_{side}.json"))
    if len(found) != 1:
        raise DataError(f"{folder} has {len(found)} files *_{side}.json; it must have one, as val_{side}.json.")
    return found[0]


def _read_items(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise DataError(f"{path} cannot be read as JSON ({fault}); fetch or write it again.") from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items) or not items:
        raise DataError(f"{path} is not a list of items.")
    for number, item in enumerate(items):
        missing = [key for key in keys if key not in item]
        if missing:
            raise DataError(f"{path}: item {number} has no {missing[0]!r}; it has {', '.join(item)}.")
    return items
