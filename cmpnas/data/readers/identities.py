"""A folder of picture files for each identity."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cmpnas.data.images import FileImages
from cmpnas.data.settings import IdentitiesSettings
from cmpnas.data.table import Table
from cmpnas.errors import DataError

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


def _shown(name: str) -> bool:
    """Folders that programs hide between those of identities, as .thumbnails and __MACOSX, would be classes, and what
    they hide in them, as ._1.jpg, pictures."""
    return not name.startswith((".", "__"))


def read(settings: IdentitiesSettings, root: Path) -> Table:
    """Identities and their pictures in the order of their names; other files and empty folders are passed over."""
    names: list[str] = []
    counts: list[int] = []
    identities: list[str] = []
    for identity in sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and _shown(entry.name)):
        pictures = sorted(
            name for name in os.listdir(root / identity) if name.lower().endswith(_PICTURES) and _shown(name)
        )
        if pictures:
            identities.append(identity)
            counts.append(len(pictures))
            names += [f"{identity}/{name}" for name in pictures]
    if not names:
        raise DataError(f"{root} has no folders of {', '.join(_PICTURES)} files; it must hold one for each identity.")
    columns = {
        "label": np.repeat(identities, counts),
        "number": np.repeat(np.arange(len(counts)), counts),
        "picture": np.concatenate([np.arange(count) for count in counts]),
    }
    return Table(FileImages(root, np.array(names), settings.size), columns)
