"""Embeddings of a benchmark's items as users save them: npy in the benchmark's order, or npz with ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmpnas.data.readers.npz import read_npz
from cmpnas.errors import DataError
from cmpnas.files import why_unread
from cmpnas.retrieval.similarity import as_matrix


def read_vectors(path: Path, ids: Sequence[str] | None, n: int, what: str) -> np.ndarray:
    """Embeddings ``(n, D)`` in the order of the benchmark; an npy file is a memory map.

    Args:
        ids: of the items, where the benchmark names them; an npz of ``embeddings`` and ``ids`` may then be in any
            order and hold more.
        what: the items, for messages.

    Raises:
        DataError: the file is missing, damaged or holds Python objects; ids are missing or doubled, or there are ids
            but the benchmark names nothing; without ids, the number of rows is not ``n``.
    """
    own_ids = None
    if path.suffix == ".npz":
        arrays = read_npz(path, "embeddings")
        embeddings, own_ids = arrays["embeddings"], arrays.get("ids")
    else:
        try:
            embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; give an npy or npz file of {what}.") from None
        except (OSError, EOFError, ValueError) as fault:
            reason = why_unread(fault)
            raise DataError(f"{path} cannot be read as npy ({reason}); write it again with numpy.save.") from None
    embeddings = as_matrix(embeddings, str(path))
    if own_ids is not None and ids is None:
        raise DataError(f"{path} holds ids, but the {what} of this benchmark have none; save rows in its order alone.")
    if own_ids is None or ids is None:
        if len(embeddings) != n:
            raise DataError(f"{path} holds {len(embeddings)} rows; the benchmark has {n} {what}, one row each.")
        return embeddings
    return embeddings[_places(own_ids, len(embeddings), ids, path, what)]


def _places(own: np.ndarray, rows: int, wanted: Sequence[str], path: Path, what: str) -> np.ndarray:
    """Row of each wanted id."""
    if own.shape != (rows,):
        raise DataError(f"{path} holds {rows} embeddings but ids of shape {own.shape}; give one each.")
    text = np.char.decode(own, "utf-8", "replace") if own.dtype.kind == "S" else own.astype(str)
    names, first = np.unique(text, return_index=True)
    if len(names) != len(own):
        doubled = own[np.setdiff1d(np.arange(len(own)), first)[0]]
        raise DataError(f"{path} holds id {str(doubled)!r} more than once; every item has one embedding.")
    sought = np.asarray(wanted, dtype=str)
    place = np.minimum(np.searchsorted(names, sought), len(names) - 1)
    missing = np.flatnonzero(names[place] != sought)
    if len(missing):
        raise DataError(f"{path} lacks {len(missing)} of {len(sought)} {what}, first {str(sought[missing[0]])!r}.")
    return first[place]


def must_be_unique(ids: Sequence[str], path: Path) -> None:
    """Raise a `DataError` naming the first id that stands twice in a benchmark's file."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"{path} names {name!r} more than once; fetch the benchmark's file again.")
        seen.add(name)
