"""Query embeddings of evaluated architectures, so that a gallery option that comes later runs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.files import read_npy, write_npy
from cmpnas.search.front import non_dominated
from cmpnas.search.records import Record, finished


class KeptQueries:
    """One file a record, float32 ``(Q, D)``, as many as a limit allows.

    Once they are more, only those of architectures that nothing beats against some gallery option stay, and of later
    ones again as many as fit. These few stay whatever the limit is.

    Args:
        limit: bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def save(self, n: int, query: np.ndarray) -> None:
        """Keep the query embeddings of record ``n``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_npy(self._path(n), query)

    def load(self, n: int) -> np.ndarray | None:
        """Those of record ``n``; None where they are not kept.

        Raises:
            RunError: the file is damaged.
        """
        path = self._path(n)
        if not path.exists():
            return None
        return read_npy(path, "delete it to leave its record as it is", mode=None)

    def prune(self, records: Sequence[Record], budget: Budget) -> None:
        """Hold to the limit, given all records so far of a search within ``budget``.

        What was evaluated before its turn, and has no record yet, stays.
        """
        held = {int(path.stem): path for path in self.folder.glob("[0-9]*.npy")}
        if sum(path.stat().st_size for path in held.values()) <= self.limit:
            return
        done = finished(records)
        costs = np.array([record.cost(budget) for record in done])
        best: set[int] = set()
        for name in {name for record in done for name in record.galleries}:
            scores = [record.galleries[name].heterogeneous if name in record.galleries else -1.0 for record in done]
            best |= {done[int(index)].n for index in non_dominated(np.array(scores), costs)}
        for n in (held.keys() & {record.n for record in records}) - best:
            held[n].unlink()

    def _path(self, n: int) -> Path:
        return self.folder / f"{n}.npy"
