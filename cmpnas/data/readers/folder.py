"""Picture files listed in a CSV."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from cmpnas.data.images import FileImages
from cmpnas.data.settings import FolderSettings
from cmpnas.data.table import Table
from cmpnas.errors import DataError, unknown

_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")  # 0012 stays text, or it would be the same label as 12


def read(settings: FolderSettings, root: Path) -> Table:
    """The CSV as a table; fields that are whole numbers throughout become numbers.

    Picture paths are relative to the CSV's folder.
    """
    path = root / settings.table
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name the folder that holds it with --data.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise DataError(f"{path} cannot be read as CSV ({fault}).") from None
    if not lines:
        raise DataError(f"{path} lists no pictures.")
    if settings.image not in lines[0]:
        raise DataError(f"{path}: " + unknown("column", settings.image, lines[0]))
    for number, line in enumerate(lines, 2):
        if None in line or None in line.values():
            raise DataError(f"{path}, line {number}: not as many fields as the header.")
    paths = tuple(path.parent / line[settings.image] for line in lines)
    if missing := [p for p in paths if not p.is_file()]:
        raise DataError(f"{len(missing)} of {len(paths)} pictures are missing, first {missing[0]}.")
    columns = {name: _column([line[name] for line in lines]) for name in lines[0] if name != settings.image}
    return Table(FileImages(paths, settings.size), columns)


def _column(texts: list[str]) -> np.ndarray:
    if all(_NUMBER.fullmatch(text) for text in texts):
        return np.array(texts).astype(np.int64)
    return np.array(texts)
