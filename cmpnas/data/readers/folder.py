"""Picture files listed in a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cmpnas.data.images import FileImages
from cmpnas.data.lists import as_column, read_csv
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
    return Table(images, {name: as_column(texts) for name, texts in fields.items()})
