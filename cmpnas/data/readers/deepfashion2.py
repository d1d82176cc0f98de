"""DeepFashion2 (Ge et al., CVPR 2019): items of its pictures, cropped by their ground-truth boxes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cmpnas.data.images import FileImages
from cmpnas.data.settings import DeepFashion2Settings
from cmpnas.data.table import Table
from cmpnas.errors import DataError
from cmpnas.progress import track

_ITEM = re.compile(r"item[1-9]\d{0,8}")
_Number = Annotated[int, Field(ge=0)]


class _Item(BaseModel):
    """What is used of an item; masks and landmarks are passed over."""

    style: _Number
    category_id: _Number
    bounding_box: tuple[float, float, float, float]

    @model_validator(mode="after")
    def _has_area(self) -> _Item:
        left, top, right, bottom = self.bounding_box
        if not (left < right and top < bottom):
            raise ValueError(f"bounding_box {self.bounding_box} is no left, top, right, bottom")
        return self


class _Annotation(BaseModel):
    """One picture: every further key is an item."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Item] = Field(init=False)

    source: Literal["user", "shop"]
    pair_id: _Number

    @property
    def items(self) -> list[tuple[int, _Item]]:
        """Items with their numbers, in the order of these."""
        found: dict[str, Any] = self.__pydantic_extra__
        return sorted((int(name.removeprefix("item")), item) for name, item in found.items())

    @model_validator(mode="after")
    def _keys_are_items(self) -> _Annotation:
        for name in self.__pydantic_extra__:
            if not _ITEM.fullmatch(name):
                raise ValueError(f"unknown key {name!r}; there are source, pair_id, item1, item2 and so on")
        return self


def read(settings: DeepFashion2Settings, root: Path) -> Table:
    """The items of every split, in the order of pictures and of their numbers."""
    names: list[str] = []
    boxes: list[tuple[float, ...]] = []
    texts: list[tuple[str, str, str]] = []
    numbers: list[tuple[int, int, int, int]] = []
    for split in settings.splits:
        annos, pictures = (_listed(root / split / kind, end) for kind, end in (("annos", ".json"), ("image", ".jpg")))
        if missing := sorted(annos - pictures):
            first = root / split / "image" / f"{missing[0]}.jpg"
            raise DataError(f"{len(missing)} of {len(annos)} annotated pictures are missing, first {first}.")
        for image in track(sorted(annos), f"read {split}", total=len(annos)):
            annotation = _read(root / split / "annos" / f"{image}.json")
            for number, item in annotation.items:
                names.append(f"{split}/image/{image}.jpg")
                boxes.append(item.bounding_box)
                texts.append((split, image, annotation.source))
                numbers.append((number, annotation.pair_id, item.style, item.category_id))
    if not names:
        raise DataError(f"{root} has no annotated item in {', '.join(settings.splits)}.")
    columns: dict[str, np.ndarray] = dict(zip(("split", "image", "source"), np.array(texts).T, strict=True))
    columns |= dict(zip(("item", "pair_id", "style", "category_id"), np.array(numbers).T, strict=True))
    columns["label"] = np.array([f"{split} {n[1]} {n[2]}" for (split, _, _), n in zip(texts, numbers, strict=True)])
    return Table(FileImages(root, np.array(names), settings.size, np.array(boxes)), columns)


def _listed(folder: Path, ending: str) -> set[str]:
    """Names of the files without their ending."""
    try:
        return {name.removesuffix(ending) for name in os.listdir(folder) if name.endswith(ending)}
    except OSError as fault:
        raise DataError(
            f"{folder} cannot be read ({fault.strerror}); name the folder of train and validation with --data."
        ) from None


def _read(path: Path) -> _Annotation:
    try:
        return _Annotation.model_validate_json(path.read_bytes())
    except OSError as fault:
        raise DataError(f"{path} cannot be read ({fault.strerror}).") from None
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        raise DataError(
            f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}; mend or fetch it again."
        ) from None
