"""Published caption sets with region features: Flickr30K and COCO as SCAN and SGRAF train on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np

from cmpnas.data.load import data_folder
from cmpnas.errors import DataError
from cmpnas.files import read_npy
from cmpnas.retrieval.protocols.captions import Captions
from cmpnas.text.captions import Captioned, CaptionedSplits
from cmpnas.text.settings import CaptionFile, KarpathySettings

_PER_IMAGE = 5
_SAMPLED = 64  # images of each split that its features are known by


def load_karpathy(settings: KarpathySettings, given: str | None = None) -> CaptionedSplits:
    """The three splits; region features stay on disk until a row is needed.

    Raises:
        DataError: a file is missing or damaged, or captions and regions are not of the same images.
    """
    root = data_folder(settings.folder, given)
    files = {"train": settings.train, "search": settings.search, "test": settings.test}
    for name in (name for file in files.values() for name in (file.captions, file.regions)):
        if not (root / name).is_file():
            raise DataError(f"{root / name} does not exist; name the folder that holds it with --data.")
    # The test split's files too: when it is opened, everything will have been trained.
    read = {name: _read(file, root) for name, file in files.items()}
    _must_not_mix(files, read)
    widths = {name: _regions(found).shape[2] for name, found in read.items()}
    if len(set(widths.values())) > 1:
        raise DataError(f"regions of {widths} features cannot be compared; fetch all files of one release.")
    digest = hashlib.sha256()
    for found in read.values():
        digest.update("\n".join([*found.names, *found.captions]).encode())
        rows = _regions(found)[:: max(1, len(found) // _SAMPLED)]
        if not np.isfinite(rows).all():
            raise DataError("region features hold NaN or infinity; fetch them again.")
        digest.update(np.ascontiguousarray(rows).tobytes())
    return CaptionedSplits(read["train"], read["search"], lambda: read["test"], digest.hexdigest()[:12])


def _regions(found: Captioned) -> np.ndarray:
    return cast(np.ndarray, found.regions)


def _must_not_mix(files: Mapping[str, CaptionFile], read: Mapping[str, Captioned]) -> None:
    """Images of one JSON have names; of text files no more is known than which they are."""
    for first, second in combinations(files, 2):
        alike = {files[first].captions, files[second].captions}
        if any(name.endswith(".txt") for name in alike):
            both = len(read[first]) if len(alike) == 1 else 0
        else:
            both = len(set(read[first].names) & set(read[second].names))
        if both:
            raise DataError(f"{both} images are in both {first} and {second}; the splits must not share any.")


def _read(file: CaptionFile, root: Path) -> Captioned:
    path = root / file.captions
    if path.suffix == ".txt":
        names, captions, image_of = _read_lines(path)
    else:
        found = Captions.read(path, file.split)
        names, captions, image_of = found.image_ids, found.captions, found.image_of
    regions = _read_regions(root / file.regions, len(names))
    return Captioned(None, regions, np.arange(len(names)), captions, image_of, names)


def _read_lines(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Five lines an image, images in the order of the region features."""
    try:
        captions = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{path} cannot be read ({fault}); name the folder that holds it with --data.") from None
    if not captions or len(captions) % _PER_IMAGE:
        raise DataError(f"{path} has {len(captions)} lines; it must have five captions of each image, a line each.")
    n = len(captions) // _PER_IMAGE
    return [str(number) for number in range(n)], captions, np.repeat(np.arange(n), _PER_IMAGE)


def _read_regions(path: Path, n: int) -> np.ndarray:
    """Memory map ``(n, R, C)``; of a file that repeats every image five times, each fifth row."""
    regions = read_npy(path, "name the folder that holds it with --data", DataError)
    if regions.ndim != 3 or not regions.size or regions.dtype.kind != "f":
        raise DataError(f"{path} is {regions.dtype}{regions.shape}; region features are floats (N, R, C).")
    if len(regions) == _PER_IMAGE * n:
        regions = regions[::_PER_IMAGE]
    if len(regions) != n:
        raise DataError(
            f"{path} has regions of {len(regions)} images, the captions are of {n}; captions without images, or images "
            "without captions, cannot be told apart here: fetch both files of one release."
        )
    return regions
