"""Public data sets that are had by name: where their files are kept, and what they must contain."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from cmpnas.errors import DataError, unknown


@dataclass(frozen=True)
class PublicSet:
    """Files below an address, each with the SHA-256 of its content; ``mirrors`` are asked in their order."""

    about: str
    mirrors: tuple[str, ...]
    files: dict[str, str]


PUBLIC = {
    "fashion_mnist": PublicSet(
        "70,000 grey pictures of clothes in ten classes, 28 px; MIT licence, Zalando SE; 30 MB",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    )
}


def get(name: str, root: Path) -> Path:
    """Have the files of a public set in ``root/name``, where its recipe looks for them, and return that folder.

    A file that is there already is checked and not loaded again; an interrupted load leaves no file.

    Raises:
        DataError: no such set; a file that is there is another one; no mirror has one that is right.
    """
    if name not in PUBLIC:
        raise DataError(unknown("public data set", name, PUBLIC, "Other data: docs/your-own-data.md"))
    known, folder = PUBLIC[name], root / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise DataError(f"cannot make {folder} ({fault.strerror}); name another folder with --data.") from None
    for file, sha256 in known.files.items():
        place = folder / file
        if place.is_dir():
            raise DataError(f"{place} is a folder, not the file of that name in {name!r}; move it away.")
        if not place.exists():
            _load(file, sha256, known.mirrors, place)
        elif _sha256(place) != sha256:
            raise DataError(f"{place} is not the file of that name in {name!r} (its SHA-256 differs); move it away.")
    return folder


def _load(file: str, sha256: str, mirrors: tuple[str, ...], place: Path) -> None:
    """Load one file from the first mirror that has it as it should be."""
    from torch.hub import download_url_to_file

    faults = []
    for mirror in mirrors:
        try:
            download_url_to_file(mirror + file, str(place), hash_prefix=sha256, progress=sys.stderr.isatty())
            return
        except (OSError, HTTPException, RuntimeError) as fault:  # RuntimeError: other content
            faults.append(f"{mirror + file}: {fault}")
    raise DataError(f"cannot load {file} ({'; '.join(faults)}); repeat the command, or put it at {place} yourself.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
