"""Picture files listed in a CSV."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cmpnas.data.images import FileImages
from cmpnas.data.lists import Columns, read_csv
from cmpnas.data.settings import FolderSettings
from cmpnas.data.table import Table
from cmpnas.errors import DataError


def read(settings: FolderSettings, root: Path) -> Table:
    """The CSV as a table; fields that are whole numbers throughout become numbers.

    Picture paths are relative to the CSV's folder.
    """
    path = root / settings.table
    fields = read_csv(path, (settings.image,), others=True)
    names = np.array(fields.pop(settings.image))
    if not len(names):
        raise DataError(f"{path} lists no pictures.")
    images = FileImages.that_exist(path.parent, names, settings.size)
    files = [os.path.abspath(path.parent / name) for name in names]
    _, first, same = np.unique(files, return_index=True, return_inverse=True)
    return Table(images, Columns(fields), first[same])
