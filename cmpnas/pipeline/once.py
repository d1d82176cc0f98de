"""Arrays that are computed once and kept in a run folder, each with the key of what it was made of beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cmpnas.distributed import first_alone
from cmpnas.files import read_json, read_npy, write_json


def once(path: Path, made_of: str, make: Callable[[], object], advice: str = "repeat the command") -> np.ndarray:
    """The array at ``path`` as a memory map, written by ``make``, in the first process, unless it is of this key.

    The key is taken away before and written after, so an array that has one is whole and of it.

    Raises:
        RunError: it is damaged; ``advice`` says what to do, once its key is deleted.
    """
    key = path.with_suffix(".json")
    with first_alone() as first:
        if first and not (key.exists() and read_json(key) == made_of):
            path.parent.mkdir(parents=True, exist_ok=True)
            key.unlink(missing_ok=True)
            make()
            write_json(key, made_of)
    return read_npy(path, f"delete {key} and {advice}")
