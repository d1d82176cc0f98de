"""A numpy archive of pictures, or of JPEG strings with offsets."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cmpnas.data.images import EncodedImages, Images, RawImages
from cmpnas.data.settings import NpzSettings
from cmpnas.data.table import Table
from cmpnas.errors import DataError, unknown
from cmpnas.files import why_unread


def read(settings: NpzSettings, root: Path) -> Table:
    """The archive as a table; arrays of other lengths are no columns, unless listed in ``per_class``."""
    arrays = read_npz(root / settings.file)

    def array(name: str) -> np.ndarray:
        if name not in arrays:
            raise DataError(f"{root / settings.file}: " + unknown("array", name, arrays))
        return arrays[name]

    pixels = array(settings.images)
    images: Images
    if settings.offsets is not None:
        offsets = array(settings.offsets)
        if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or pixels.ndim != 1:
            raise DataError(
                f"{settings.offsets!r} is {offsets.dtype}{offsets.shape} and {settings.images!r} {pixels.shape}; "
                "strings are bytes (B,) with whole numbers (N + 1,)."
            )
        offsets = offsets.astype(np.int64)
        if len(offsets) < 2 or (np.diff(offsets) <= 0).any() or offsets[-1] > len(pixels):
            raise DataError(f"{settings.offsets!r} must rise and end within {settings.images!r} ({len(pixels)} bytes).")
        images = EncodedImages(pixels, offsets, settings.size)
    else:
        shape = pixels.shape
        if pixels.dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)) or 0 in shape[1:]:
            raise DataError(
                f"array {settings.images!r} is {pixels.dtype}{pixels.shape}; pictures are uint8 (N, H, W) or "
                "(N, H, W, 3), or strings with offsets."
            )
        images = RawImages(pixels, settings.size)
    labels = array(settings.label)
    if labels.shape[:1] != (len(images),):
        raise DataError(f"{len(images)} images but {labels.size} {settings.label!r}; they must be as many.")
    skipped = {settings.images, settings.offsets, *settings.per_class}
    columns = {k: _text(v) for k, v in arrays.items() if k not in skipped and v.shape == (len(images),)}
    most = int(labels.max()) if len(labels) and labels.dtype.kind in "iu" else -1
    for name in settings.per_class:
        values, kind = array(name), labels.dtype
        if labels.ndim != 1 or kind.kind not in "iu" or (len(labels) and labels.min() < 0):
            raise DataError(
                f"per_class {name!r} is looked up by class numbers, and {settings.label!r} is {kind}{labels.shape} or "
                "has negative ones; write the column for each picture instead."
            )
        if values.ndim != 1 or len(values) <= most:
            raise DataError(f"array {name!r} is {values.shape}, and labels go up to {most}.")
        columns[name] = _text(values[labels])
    return Table(images, columns)


def _text(column: np.ndarray) -> np.ndarray:
    """Bytes as the text that conditions are compared with; what is no UTF-8 shows as such."""
    return np.char.decode(column, "utf-8", "backslashreplace") if column.dtype.kind == "S" else column


def read_npz(path: Path, *needed: str) -> dict[str, np.ndarray]:
    """Every array of an archive, without pickles; those ``needed`` are among them.

    Raises:
        DataError: missing, damaged, holding Python objects, or lacking an array.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path, or --data where the command takes it.") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as fault:
        raise DataError(f"{path} cannot be read as npz ({why_unread(fault)}); fetch or write it again.") from None
    must_hold(arrays, path, *needed)
    return arrays


def must_hold(arrays: Mapping[str, np.ndarray], path: Path, *names: str) -> None:
    """Raise a `DataError` for the first of ``names`` that ``path`` lacks."""
    for name in names:
        if name not in arrays:
            raise DataError(f"{path} has no array {name!r}; it holds {', '.join(arrays) or 'nothing'}.")
