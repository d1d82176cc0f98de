"""From the ``data`` section of a recipe to splits."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from cmpnas.data.items import Splits
from cmpnas.data.settings import DataSettings, ShopSettings
from cmpnas.data.table import split
from cmpnas.errors import DataError


def named_folder(given: str | None) -> str | None:
    """The data folder that the user named: ``--data``, else ``CMPNAS_DATA``."""
    return given or os.environ.get("CMPNAS_DATA")


def data_folder(own: str, given: str | None) -> Path:
    """Where a recipe's files are: ``--data``, else ``CMPNAS_DATA``; the recipe's ``own`` sub-folder if there is one.

    Raises:
        DataError: no folder is named, or it does not exist.
    """
    named = named_folder(given)
    if named is None:
        raise DataError("this recipe reads files; name their folder with --data or in CMPNAS_DATA.")
    root = Path(named)
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist; name another with --data.")
    below = root / own
    return below if below.is_dir() else root


def data_file(settings: DataSettings, given: str | None, file: str) -> Path:
    """A file that a recipe names: absolute, below the recipe's own folder, or below the data folder.

    Raises:
        DataError: there is none.
    """
    if Path(file).is_absolute():
        places = [Path(file)]
    else:
        places = [data_folder(own, given) / file for own in (settings.folder, "")]
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"{places[0]} does not exist; name a file that is absolute or below the data folder.")


def load_splits(settings: DataSettings, given: str | None = None) -> Splits:
    """Read the data set and divide it.

    Raises:
        DataError: data are missing, damaged, or the splits share items.
    """
    root = Path() if isinstance(settings, ShopSettings) else data_folder(settings.folder, given)
    reader = import_module(f"cmpnas.data.readers.{settings.reader}")  # type: ignore[attr-defined]
    return split(reader.read(settings, root), settings)
