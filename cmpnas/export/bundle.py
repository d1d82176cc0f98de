"""The folder that `cmpnas export` leaves: files, a manifest that names and hashes them, and how it is read back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmpnas.errors import RunError
from cmpnas.export.pictures import Pictures
from cmpnas.files import hash_file, read_json

ONNX, PROGRAM, SOURCE = "query.onnx", "query.pt2", "model.py"
#: In int8, or with weights in int8: not the vectors of float32, but as good.
SMALL = INT8, WEIGHTS8 = "query.int8.onnx", "query.w8.onnx"
GALLERY, PARTS = "gallery.onnx", "gallery.parts.onnx"
#: From vectors as the index stores them to vectors in the query network's own language.
ALIGN = "index.align.onnx"
MANIFEST = "manifest.json"
_PARTIAL = ".partial."
#: Parts of a manifest, and what each is read for.
_NEEDED: dict[str, tuple[str, ...]] = {
    "input": (),
    "gallery": ("index", "key"),
    "data": ("settings", "fingerprint"),
    "scores": ("metric", "heterogeneous"),
    "proof": (),
}


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    manifest: dict[str, Any]

    @staticmethod
    def open(path: Path) -> Bundle:
        """Read a bundle and compare every file with its hash.

        Raises:
            RunError: it is no bundle, or a file is missing or damaged.
        """
        if not (path / MANIFEST).is_file():
            raise RunError(
                f"{path} has no {MANIFEST}, it is not a bundle; make one with: cmpnas export RUN --out {path}"
            )
        manifest = read_json(path / MANIFEST)
        files = _listed(manifest)
        if files is not None and manifest.get("task") == "text":
            raise RunError(
                f"{path} is a bundle for texts; those are checked when they are made. Name one for pictures."
            )
        lacks = "files" if files is None else next((name for name in _NEEDED if not _has(manifest, name)), None)
        if files is None or lacks:
            raise RunError(f"{path / MANIFEST} has no {lacks!r}; it is damaged or of another program. Export again.")
        for name, known in files.items():
            found = hash_file(path / name)
            if found != known:
                what = "is missing" if found is None else f"is damaged (hash {found}, the manifest has {known})"
                raise RunError(f"{path / name} {what}; export again.")
        return Bundle(path, manifest)

    def has(self, name: str) -> bool:
        """Whether this file is part of the bundle."""
        return name in self.manifest["files"]

    @property
    def pictures(self) -> Pictures:
        """What its files take.

        Raises:
            RunError: the manifest does not say.
        """
        try:
            return Pictures.from_json(self.manifest["input"])
        except (KeyError, TypeError, IndexError, ValueError):
            raise RunError(f"{self.path / MANIFEST} does not say what the files take; export again.") from None


def describe_files(folder: Path) -> dict[str, Any]:
    """Hash and size of each file of a bundle but the manifest."""
    found = sorted(file for file in folder.iterdir() if file.is_file() and file.name != MANIFEST)
    return {file.name: {"hash": hash_file(file), "bytes": file.stat().st_size} for file in found}


@contextmanager
def whole_or_absent(out: Path) -> Iterator[Path]:
    """A folder to write a bundle to. Its files take their place in ``out`` when the block ends, and only then.

    One process at a time: what one that was killed left in ``out`` is removed.

    Raises:
        RunError: ``out`` cannot be written or holds something else than a bundle, or something in the block failed:
            then nothing was exported.
    """
    before = _files_of(out)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f"{_PARTIAL}*"):
            shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=out))
    except OSError as fault:
        raise RunError(f"cannot write to {out}: {fault.strerror}; name another --out.") from None
    try:
        yield folder
        files = [file for file in folder.iterdir() if file.is_file()]
        files.sort(key=lambda file: file.name == MANIFEST)  # the last: with it the bundle is whole
        if folders := [file.name for file in files if (out / file.name).is_dir()]:
            raise RunError(f"{out / folders[0]} is a folder, where a file of the bundle has to go; move it away.")
        for file in files:
            file.replace(out / file.name)
        for name in before.keys() - {file.name for file in files}:
            if hash_file(out / name) == before[name]:  # what somebody changed is theirs
                (out / name).unlink()
    except RunError as fault:
        raise RunError(f"{fault} Nothing was exported.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for own in made:  # empty ones that were made for nothing
            if own.is_dir() and not any(own.iterdir()):
                own.rmdir()


def _files_of(out: Path) -> dict[str, str]:
    """Names and hashes of the files of the bundle that is in ``out``, which a new one takes the place of."""
    there = [file for file in out.iterdir() if not file.name.startswith(_PARTIAL)] if out.is_dir() else []
    if not there:
        return {}
    files = _listed(read_json(out / MANIFEST)) if (out / MANIFEST).is_file() else None
    if files is None:
        raise RunError(f"{out} is not empty and no bundle; name another --out, or empty it.")
    return files


def _listed(manifest: Any) -> dict[str, str] | None:
    """Names and hashes of the files that a manifest lists, as `describe_files` has them; None if it lists none so."""
    files = manifest.get("files") if isinstance(manifest, dict) and "schema" in manifest else None
    if not isinstance(files, dict) or not files:
        return None
    known: dict[str, str] = {}
    for name, about in files.items():
        own = about.get("hash") if isinstance(about, dict) else None
        if not isinstance(own, str) or Path(name).name != name:
            return None
        known[name] = own
    return known


def _has(manifest: dict[str, Any], name: str) -> bool:
    part = manifest.get(name)
    return isinstance(part, dict) and all(key in part for key in _NEEDED[name])
