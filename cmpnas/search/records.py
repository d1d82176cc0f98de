"""The append-only log of evaluated architectures: the truth that everything else is rebuilt from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.errors import RunError
from cmpnas.files import append_line, json_line, read_json, whole_lines, write, write_json
from cmpnas.retrieval import Scores
from cmpnas.space import Arch, SearchSpace

_MEND = "remove it and all lines after it, and use --resume"
#: M(q, q), M(q, g), or their product (CMP-NAS's three).
Reward = Literal["r1", "r2", "r3"]


class Proposal(NamedTuple):
    """A numbered architecture to evaluate.

    Attributes:
        marks: by gallery option, the score on the first part of the queries up to which it need not be evaluated to
            the end, if it is above none of them; see `cmpnas.search.race`.
    """

    n: int
    arch: Arch
    marks: Mapping[str, float] = MappingProxyType({})

    def to_json(self) -> list[Any]:
        """As a task holds it."""
        return [self.n, self.arch.to_json(), *([dict(self.marks)] if self.marks else [])]

    @staticmethod
    def from_json(content: Any, space: SearchSpace) -> Proposal:
        """Read it back."""
        n, arch, *marks = content
        return Proposal(n, space.from_json(arch), *marks)


@dataclass(frozen=True)
class PairScore:
    """M(q, g) of one architecture and one gallery, with its 95% interval.

    ``first`` is the score on the first part of the queries, of what was evaluated to the end where others are raced.
    """

    heterogeneous: float
    interval: tuple[float, float]
    first: float | None = None

    @staticmethod
    def of(scores: Scores, metric: str, first: np.ndarray | None = None) -> PairScore:
        """``metric`` of all queries; and of the ``first``, int64 rows, where architectures are raced."""
        of_first = None
        if first is not None:
            of_first = float(scores.per_query(metric)[np.isin(np.flatnonzero(scores.counted), first)].mean())
        return PairScore(scores[metric], scores.interval(metric), of_first)

    def to_json(self) -> dict[str, Any]:
        """As a record holds it."""
        first = {} if self.first is None else {"first": self.first}
        return {"heterogeneous": self.heterogeneous, "interval": list(self.interval), **first}

    @staticmethod
    def from_json(content: Any) -> PairScore:
        """Read it back."""
        low, high = content["interval"]
        return PairScore(content["heterogeneous"], (low, high), content.get("first"))


@dataclass(frozen=True)
class Record:
    """One evaluated architecture against every gallery option.

    An option that was added to a finished run may be missing in some, see `cmpnas.search.kept`.

    Attributes:
        homogeneous: M(q, q), NaN where it was not asked for (``search.homogeneous``) or the architecture was stopped.
        raced: after how many queries it was stopped, as it could no longer enter the front: then scores are of these
            alone. None for what was evaluated to the end.
    """

    n: int
    arch: Arch
    mflops: float
    params_m: float
    galleries: Mapping[str, PairScore]
    homogeneous: float
    latency_ms: float | None = None
    raced: int | None = None

    def cost(self, budget: Budget) -> float:
        """What a search under ``budget`` lowers, see `Budget.lowers`."""
        return budget.lowers(self.mflops, self.latency_ms)

    def reward(self, gallery: str, which: Reward) -> float:
        """What a controller is told of this architecture against ``gallery``."""
        r1, r2 = self.homogeneous, self.galleries[gallery].heterogeneous
        return {"r1": r1, "r2": r2, "r3": r1 * r2}[which]

    def to_json(self) -> dict[str, Any]:
        """As one line of ``records.jsonl``; no clock in it, so that equal searches give equal files."""
        return {
            "n": self.n,
            "query": {
                "id": self.arch.id,
                "arch": self.arch.to_json(),
                "mflops": self.mflops,
                "params_m": self.params_m,
                **({} if self.latency_ms is None else {"latency_ms": self.latency_ms}),
            },
            "galleries": {name: score.to_json() for name, score in self.galleries.items()},
            **({} if math.isnan(self.homogeneous) else {"homogeneous": self.homogeneous}),
            **({} if self.raced is None else {"raced": {"queries": self.raced}}),
        }

    @staticmethod
    def from_json(content: Any, space: SearchSpace) -> Record:
        """Read back one line."""
        query = content["query"]
        return Record(
            content["n"],
            space.from_json(query["arch"]),
            query["mflops"],
            query["params_m"],
            {name: PairScore.from_json(score) for name, score in content["galleries"].items()},
            content.get("homogeneous", math.nan),
            query.get("latency_ms"),
            content["raced"]["queries"] if "raced" in content else None,
        )


def finished(records: Iterable[Record]) -> list[Record]:
    """Those that were evaluated to the end: what fronts and pictures are made of."""
    return [record for record in records if record.raced is None]


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}")


class RecordLog:
    """``records.jsonl``: one line an architecture, on disk before the next one is begun."""

    def __init__(self, path: Path, space: SearchSpace) -> None:
        self.path, self.space = path, space

    def must_be_of(self, key: str) -> None:
        """Check that what scored these records has this key; where there are none yet, note it.

        Raises:
            RunError: it has another.
        """
        path = self.path.with_suffix(".key.json")
        known = read_json(path) if path.exists() else None
        if known is None or not self.path.exists():
            if known != key:  # what was finished ahead is of who knows what
                self.path.with_suffix(".ahead.jsonl").unlink(missing_ok=True)
            write_json(path, key)
        elif known != key:
            raise RunError(
                f"{self.path} holds scores by other weights, files or latencies than there are now; name another --run."
            )

    def read(self) -> list[Record]:
        """Every whole record in order; a last line cut short by a crash is passed over.

        Raises:
            RunError: a line is damaged, numbered wrongly, or repeats an architecture.
        """
        records: list[Record] = []
        seen: set[str] = set()
        for number, line in enumerate(whole_lines(self.path)):
            try:
                record = Record.from_json(json.loads(line, parse_constant=_refuse), self.space)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
                raise RunError(f"{self.path}, line {number + 1} is not a record ({fault}); {_MEND}.") from None
            if record.n != number or record.arch.id in seen:
                raise RunError(f"{self.path}, line {number + 1} is out of order or repeats an architecture; {_MEND}.")
            seen.add(record.arch.id)
            records.append(record)
        return records

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on disk."""
        append_line(self.path, record.to_json())

    def rewrite(self, records: Sequence[Record]) -> None:
        """Put ``records``, the same architectures with more scores, in place of what is there, at once."""
        write(self.path, "".join(json_line(record.to_json()) for record in records))


class Ahead:
    """Records that were finished before one of a lower number: kept, so that a crash costs no evaluation."""

    def __init__(self, path: Path, space: SearchSpace) -> None:
        self.path, self.space = path, space

    def read(self) -> list[Record]:
        """Every whole record, in the order in which they were finished.

        Raises:
            RunError: a line is damaged.
        """
        try:
            return [Record.from_json(json.loads(line), self.space) for line in whole_lines(self.path)]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
            raise RunError(f"{self.path} is damaged ({fault}); delete it.") from None

    def add(self, record: Record) -> None:
        """Write one record and wait until it is on disk."""
        append_line(self.path, record.to_json())

    def clear(self) -> None:
        """Forget all: they are in the log."""
        self.path.unlink(missing_ok=True)
