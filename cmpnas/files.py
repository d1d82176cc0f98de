"""Files that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cmpnas.errors import CmpnasError, RunError

if TYPE_CHECKING:
    import numpy as np

Mode = Literal["r", "c"]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of ``path`` once all is written, so that a crash leaves the old file."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    partial.replace(path)


def write(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one, never half."""
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise RunError(f"{path} cannot be read ({fault}).") from None


def why_unread(fault: Exception) -> str:
    """What numpy found wrong with a file; it takes all that it does not know for pickled objects."""
    return "it holds text or Python objects" if "pickle" in str(fault) else str(fault)


def read_npy(path: Path, advice: str, error: type[CmpnasError] = RunError, *, mode: Mode | None = "r") -> np.ndarray:
    """The array of an npy file, by default as a memory map to read from; ``mode`` None reads all of it.

    Raises:
        error: it is missing or damaged; ``advice`` says what to do.
    """
    import numpy as np

    try:
        found: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
        return found
    except (OSError, EOFError, ValueError) as fault:
        raise error(f"{path} cannot be read ({why_unread(fault)}); {advice}.") from None


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an npy file, whole or not at all."""
    import numpy as np

    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array)


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that is appended to, without a last one that a crash cut short; none if there is no file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1].splitlines()


def drop_partial_line(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, so that the next append is clean."""
    if path.exists():
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def json_line(content: Any) -> str:
    """``content`` as one line of JSON."""
    return json.dumps(content, allow_nan=False) + "\n"


def append_line(path: Path, content: Any) -> None:
    """Append ``content`` as one line of JSON and wait until it is on disk.

    Raises:
        RunError: there is no room, or the file cannot be written.
    """
    line = json_line(content)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        raise RunError(
            f"cannot write {path}: {fault.strerror}; what was written before is kept: make room and repeat the "
            "command, a search with --resume."
        ) from None


def hash_of(*parts: Any) -> str:
    """Twelve hexadecimal digits of a hash over anything JSON can hold: the key of an artefact."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def hash_file(path: Path) -> str | None:
    """The same of a file's content; None where there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
