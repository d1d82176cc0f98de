"""Google Landmarks v2 (Weyand et al., CVPR 2020): its training CSVs, and pictures in folders of their ids' letters."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cmpnas.data.images import FileImages
from cmpnas.data.lists import as_column, read_csv
from cmpnas.data.settings import GLDv2Settings
from cmpnas.data.table import Table
from cmpnas.errors import DataError

_ID = re.compile(r"[0-9a-f]{16}")


def read(settings: GLDv2Settings, root: Path) -> Table:
    """The pictures of train_clean.csv (landmark_id, images) or train.csv (id, url, landmark_id), in its order."""
    path = root / settings.table
    fields = read_csv(path, ("landmark_id",), others=True)
    landmarks = as_column(fields["landmark_id"])
    if "images" in fields:
        lists = [images.split() for images in fields["images"]]
        ids = [name for images in lists for name in images]
        landmarks = np.repeat(landmarks, [len(images) for images in lists])
    elif "id" in fields:
        ids = fields["id"]
    else:
        raise DataError(f"{path} has neither a column 'images' nor 'id'; give train_clean.csv or train.csv.")
    if not ids:
        raise DataError(f"{path} lists no pictures.")
    if landmarks.dtype.kind != "i":
        raise DataError(f"{path} holds a landmark_id that is no whole number; fetch it again.")
    if (odd := next((name for name in ids if not _ID.fullmatch(name)), None)) is not None:
        raise DataError(f"{path} names picture {odd!r}; ids are 16 hexadecimal digits. Fetch it again.")
    names = np.array([f"{name[0]}/{name[1]}/{name[2]}/{name}.jpg" for name in ids])
    columns = {"id": np.array(ids), "label": landmarks, "picture": _number_within(landmarks)}
    return Table(FileImages.that_exist(root / settings.images, names, settings.size), columns)


def _number_within(groups: np.ndarray) -> np.ndarray:
    """0, 1, ... for the members of each group in their order."""
    order = np.argsort(groups, kind="stable")
    _, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    numbers = np.empty(len(groups), np.int64)
    numbers[order] = np.arange(len(groups)) - np.repeat(first, counts)
    return numbers
