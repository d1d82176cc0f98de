"""A bank: the features that several frozen models gave of one list of pictures, on disk."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cmpnas.errors import DataError, RunError
from cmpnas.files import hash_of, read_json, read_npy, write_json
from cmpnas.models.mixer import Shape
from cmpnas.problems import validate
from cmpnas.strict import Strict

Kind = Literal["global", "local"]

_KEPT = np.float16
_MANIFEST, _ROWS, _LOCK = "manifest.json", "rows.npy", "lock"


class Entry(Strict):
    """One array of a bank.

    Attributes:
        name: of the source; ``NAME.local`` are its local features.
        file: npy of ``(N, W)`` (global) or ``(N, T, W)`` (local), any float type.
        images: key of the list of pictures that it was made of.
        mflops: million multiply-adds an image; 0 where the run that gave another array gave this one too.
        made_of: key of the model and its settings.
    """

    name: Annotated[str, Field(min_length=1)]
    file: Annotated[str, Field(min_length=1)]
    kind: Kind
    images: str
    mflops: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    made_of: str


class Manifest(Strict):
    """Content of a bank's ``manifest.json``; ``images`` is the key of its list of pictures, ``rows.npy``."""

    version: Literal[1] = 1
    images: str
    sources: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Bank:
    """Features of ``N`` pictures, read a batch at a time.

    Files are mapped anew for every read, so what stays in memory is the batch.

    Attributes:
        rows: int64 ``(N,)``, ascending: each picture's row in the data set.
        shapes: of each of the manifest's sources.
    """

    folder: Path
    manifest: Manifest
    rows: np.ndarray
    shapes: tuple[Shape, ...]

    @staticmethod
    def open(folder: Path) -> Bank:
        """Open a bank and check that its files fit together.

        Raises:
            DataError: something is missing or damaged, sources share a name, or they are of different pictures.
        """
        manifest = _read_manifest(folder)
        rows = _mapped(folder / _ROWS)
        if rows.ndim != 1 or rows.dtype != np.int64 or (np.diff(rows) <= 0).any():
            raise DataError(f"{folder / _ROWS} must be ascending int64 numbers; make the bank again.")
        names = [entry.name for entry in manifest.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{folder / _MANIFEST} names source {twice[0]!r} twice; give each a name of its own.")
        shapes = []
        for entry in manifest.sources:
            if entry.images != manifest.images:
                raise DataError(
                    f"source {entry.name!r} of {folder} was made from another list of images ({entry.images}; the "
                    f"bank's is {manifest.images}); make it again."
                )
            shapes.append(_shape(entry, _mapped(folder / entry.file), len(rows)))
        return Bank(folder, manifest, np.array(rows), tuple(shapes))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources, in order."""
        return tuple(entry.name for entry in self.manifest.sources)

    def only(self, names: Iterable[str]) -> Bank:
        """The bank of these sources, in this order.

        Raises:
            DataError: it lacks one.
        """
        order = []
        for name in names:
            if name not in self.names:
                raise DataError(f"{self.folder} has no source {name!r}; there are: {', '.join(self.names) or 'none'}.")
            order.append(self.names.index(name))
        manifest = self.manifest.model_copy(update={"sources": tuple(self.manifest.sources[n] for n in order)})
        return Bank(self.folder, manifest, self.rows, tuple(self.shapes[n] for n in order))

    def holds(self, rows: np.ndarray) -> bool:
        """Whether all of these rows of the data set are in it."""
        return bool(np.isin(rows, self.rows).all())

    def read(self, rows: np.ndarray) -> list[Tensor]:
        """Features of rows of the data set: of each source, float32 ``(B, T, W)``.

        Raises:
            DataError: a row is not there, or holds NaN or infinity.
        """
        positions = np.searchsorted(self.rows, rows)
        known = self.rows[np.minimum(positions, len(self.rows) - 1)] == rows
        if not known.all():
            raise DataError(f"row {rows[~known][0]} of the data set is not in {self.folder}; make the bank again.")
        found = []
        for entry, (tokens, width) in zip(self.manifest.sources, self.shapes, strict=True):
            taken = _mapped(self.folder / entry.file)[positions].astype(np.float32)
            part = torch.from_numpy(taken).view(-1, tokens, width)
            finite = torch.isfinite(part).all(2).all(1)
            if not finite.all():
                raise DataError(
                    f"source {entry.name!r} of {self.folder} holds NaN or infinity for row "
                    f"{rows[~finite.numpy()][0]} of the data set; make it again."
                )
            found.append(part)
        return found


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Fill the bank in ``folder`` while no other process does: runs that share one wait, and find what it left.

    Raises:
        DataError: ``folder`` cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise DataError(f"cannot keep features in {folder}: {fault.strerror}; name another gallery.bank.") from None
    if not os.access(folder, os.W_OK):  # whatever is there is complete, or cannot be completed
        yield
        return
    with (folder / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def begin_bank(folder: Path, rows: np.ndarray, data: str) -> Bank:
    """The bank in ``folder`` of the pictures ``rows`` of a data set with fingerprint ``data``, made if there is none.

    Raises:
        DataError: ``folder`` holds something else, or a bank of other pictures.
    """
    images = hash_of(data, hashlib.sha256(rows.tobytes()).hexdigest())
    if not folder.exists() or {file.name for file in folder.iterdir()} <= {_LOCK, _ROWS}:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / _ROWS, rows)
        _write_manifest(folder, Manifest(images=images))
    bank = Bank.open(folder)
    if bank.manifest.images != images:
        raise DataError(
            f"{folder} is a bank of another list of images ({bank.manifest.images}, here {images}); name another."
        )
    return bank


def add_source(bank: Bank, entries: list[Entry], chunks: Iterable[list[np.ndarray]]) -> Bank:
    """Write the arrays of one source, one chunk of pictures after the other, and list them.

    Args:
        entries: what the manifest says of each array.
        chunks: of each array the next ``(B, T, W)``; all together one row for every picture of the bank.

    Raises:
        DataError: a name is taken already, a value is not finite, or pictures are missing.
    """
    for entry in entries:
        if entry.name in bank.names:
            raise DataError(f"{bank.folder} has a source {entry.name!r} already; give each a name of its own.")
    files: list[BinaryIO] = []
    at = 0
    with ExitStack() as stack:
        for parts in chunks:
            if not files:
                files = [stack.enter_context(_begin(bank, *pair)) for pair in zip(entries, parts, strict=True)]
            for entry, file, part in zip(entries, files, parts, strict=True):
                if not (finite := np.isfinite(part).all((1, 2))).all():
                    row = bank.rows[at + int(finite.argmin())]
                    raise DataError(
                        f"source {entry.name!r} gives NaN or infinity for row {row} of the data set; mend it."
                    )
                file.write(part.astype(_KEPT).tobytes())  # not through a memory map, which would hold all of it
            at += len(parts[0])
    if at != len(bank):
        raise DataError(f"source {entries[0].name!r} has {at} rows, the bank {len(bank)}; they must be as many.")
    for entry in entries:
        _partial(bank.folder / entry.file).replace(bank.folder / entry.file)
    manifest = bank.manifest.model_copy(update={"sources": (*bank.manifest.sources, *entries)})
    _write_manifest(bank.folder, manifest)
    return Bank.open(bank.folder)


def _begin(bank: Bank, entry: Entry, part: np.ndarray) -> BinaryIO:
    """A new npy with the header of an array of as many rows as the bank, each like those of ``part``."""
    shape = part.shape[1:] if entry.kind == "local" else part.shape[2:]
    file = _partial(bank.folder / entry.file).open("wb")
    header = {"descr": np.dtype(_KEPT).str, "fortran_order": False, "shape": (len(bank), *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / _MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} has no {_MANIFEST}, so it is no bank; name the right folder, or an empty one.")
    try:
        content = read_json(path)
    except RunError as fault:
        raise DataError(str(fault)) from None
    return validate(Manifest, content, str(path), DataError)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / _MANIFEST, manifest.model_dump(mode="json"))


def _mapped(path: Path) -> np.ndarray:
    return read_npy(path, "make the bank again", DataError)


def _shape(entry: Entry, array: np.ndarray, count: int) -> Shape:
    wanted = 2 if entry.kind == "global" else 3
    if array.ndim != wanted or len(array) != count or array.dtype.kind != "f":
        form = f"({count}, W)" if entry.kind == "global" else f"({count}, T, W)"
        raise DataError(
            f"{entry.file} of source {entry.name!r} is {array.dtype} {array.shape}; {entry.kind} features are {form} "
            "floats. Make it again."
        )
    return (1 if array.ndim == 2 else array.shape[1]), array.shape[-1]
