"""DeepFashion2 consumer-to-shop (Ge et al., CVPR 2019): on given crops, or on an own detector's boxes.

Ground truth is a folder with the official ``val_query.json`` and ``val_gallery.json`` (or ``query_gt.json`` and
``gallery_gt.json``). Queries are items of style above 0; the right gallery items have the same pair and style. Gallery
items of style 0 stay in, as distractors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cmpnas.errors import DataError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.evaluate import evaluate_retrieval
from cmpnas.retrieval.protocols.result import Result, results
from cmpnas.retrieval.similarity import as_matrix

TOPS = (1, 5, 10, 15, 20)
_IOU = 0.5

Box = tuple[float, float, float, float]


class _Item(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class QueryItem(_Item):
    """An item of a consumer's picture; the box is (x1, y1, x2, y2)."""

    query_image_id: int
    style: int
    cls: int
    pair_id: int
    bbox: Annotated[Box, Field(strict=False)]


class GalleryItem(_Item):
    """An item of a shop's picture."""

    gallery_image_id: int
    style: int
    pair_id: int
    bbox: Annotated[Box, Field(strict=False)]


class Detection(_Item):
    """An item that a detector found in a consumer's picture, and the shop boxes retrieved for it."""

    query_image_id: int
    query_bbox: Annotated[Box, Field(strict=False)]
    query_cls: int
    query_score: float
    gallery_image_id: list[int]
    gallery_bbox: list[Annotated[Box, Field(strict=False)]]


_Read = TypeVar("_Read", bound=_Item)


@dataclass(frozen=True)
class DeepFashion2:
    """Items as the files list them."""

    query: list[QueryItem]
    gallery: list[GalleryItem]

    @staticmethod
    def read(folder: Path) -> DeepFashion2:
        """The two lists of a folder.

        Raises:
            DataError: a file is missing, damaged, or an item lacks a field; or there is no query.
        """
        query = _read_items(_only(folder, "query"), QueryItem)
        if not any(item.style > 0 for item in query):
            raise DataError(f"no query item of {folder} has a style above 0, so there is no query.")
        return DeepFashion2(query, _read_items(_only(folder, "gallery"), GalleryItem))

    def gt_crop(self, query: np.ndarray, gallery: np.ndarray) -> list[Result]:
        """Hit rates of embeddings of the items' own boxes, each in the order of its file."""
        names = [f"hit@{k}" for k in TOPS]
        embeddings = as_matrix(query, "query embeddings"), as_matrix(gallery, "gallery embeddings")
        listed = len(self.query), len(self.gallery)
        for side, rows, n in zip(("query", "gallery"), embeddings, listed, strict=True):
            if len(rows) != n:
                raise DataError(f"{len(rows)} {side} embeddings; the file lists {n} items.")
        counted = np.array([item.style > 0 for item in self.query])
        labels = [np.array([f"{item.pair_id} {item.style}" for item in side]) for side in (self.query, self.gallery)]
        scores = evaluate_retrieval(
            embeddings[0][counted], embeddings[1], labels[0][counted], labels[1], names, empty="zero"
        )
        return results("gt-crop", scores, names)

    def detected(self, path: Path) -> list[Result]:
        """Hit rates of a result file in the official form, twenty shop boxes for each detection.

        A detection stands for the ground-truth item that it overlaps most, if its class is right; of several the
        most certain; an item without one is missed. A retrieved box is right if it overlaps a right gallery item of
        its image by at least half.

        Raises:
            DataError: the file is missing, damaged, or a detection lacks a field.
        """
        found: dict[int, list[Detection]] = {}
        for number, detection in enumerate(_read_items(path, Detection)):
            if not detection.gallery_bbox or len(detection.gallery_image_id) != len(detection.gallery_bbox):
                raise DataError(
                    f"{path}: detection {number} has {len(detection.gallery_image_id)} gallery_image_id and "
                    f"{len(detection.gallery_bbox)} gallery_bbox; give as many of both, at least one."
                )
            found.setdefault(detection.query_image_id, []).append(detection)
        right: dict[tuple[int, int], list[GalleryItem]] = {}
        for shown in self.gallery:
            right.setdefault((shown.pair_id, shown.style), []).append(shown)
        in_image: dict[int, list[QueryItem]] = {}
        for item in self.query:
            in_image.setdefault(item.query_image_id, []).append(item)
        first = [
            _first_right(best, right.get((item.pair_id, item.style), []))
            for image, items in in_image.items()
            for item, best in zip(items, _representatives(items, found.get(image, [])), strict=True)
            if item.style > 0
        ]
        hits = {k: (np.array(first) <= k).astype(np.float64) for k in TOPS}
        return [Result("detected", f"hit@{k}", float(v.mean()), interval(v), len(v)) for k, v in hits.items()]


def _representatives(items: list[QueryItem], detections: list[Detection]) -> list[Detection | None]:
    """The detection that stands for each item of an image."""
    best: list[Detection | None] = [None] * len(items)
    if detections:
        overlap = box_overlap(_boxes([one.query_bbox for one in detections]), _boxes([item.bbox for item in items]))
        for detection, number in zip(detections, overlap.argmax(1).tolist(), strict=True):
            held = best[number]
            if detection.query_cls == items[number].cls and (held is None or detection.query_score > held.query_score):
                best[number] = detection
    return best


def _first_right(detection: Detection | None, right: list[GalleryItem]) -> float:
    """1-based place of the first right box retrieved, infinity if there is none."""
    if detection is None or not right:
        return np.inf
    overlap = box_overlap(_boxes(detection.gallery_bbox), _boxes([item.bbox for item in right]))
    images = np.array([item.gallery_image_id for item in right])
    same = np.array(detection.gallery_image_id)[:, None] == images[None]
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


def _boxes(boxes: list[Box]) -> np.ndarray:
    return np.array(boxes, np.float64)


def _only(folder: Path, side: str) -> Path:
    found = sorted(folder.glob(f"*{side}*.json"))
    if len(found) != 1:
        raise DataError(f"{folder} has {len(found)} files *{side}*.json; it must have one, as val_{side}.json.")
    return found[0]


def _read_items(path: Path, kind: type[_Read]) -> list[_Read]:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        items = TypeAdapter(list[kind]).validate_python(raw)  # type: ignore[valid-type]
    except OSError as fault:
        raise DataError(f"{path} cannot be read ({fault.strerror}).") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise DataError(f"{path} cannot be read as JSON ({fault}); fetch or write it again.") from None
    except ValidationError as fault:
        first = fault.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        raise DataError(f"{path}: {place}: {first['msg']} ({fault.error_count()} such mistakes).") from None
    if not items:
        raise DataError(f"{path} lists nothing; fetch or write it again.")
    return items
