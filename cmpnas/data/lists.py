"""CSV files with a header, column by column: what data sets and benchmarks are published as."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cmpnas.errors import DataError

_LONGEST_FIELD = 2**30  # thousands of image ids stand in one
_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")  # 0012 stays text, or it would be the same label as 12


def read_csv(path: Path, columns: Sequence[str], *, others: bool = False) -> dict[str, list[str]]:
    """The fields of ``columns``, and with ``others`` of every column, in the order of the lines.

    A byte-order mark, spaces after commas and empty lines are skipped.

    Raises:
        DataError: the file is missing or no CSV, lacks a column, or a line has other fields than the header.
    """
    try:
        csv.field_size_limit(_LONGEST_FIELD)
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True, strict=True)
            header = next(lines, [])
            if twice := sorted({name for name in header if header.count(name) > 1}):
                raise DataError(f"{path} has two columns {twice[0]!r}; give each a name of its own.")
            missing = [name for name in columns if name not in header]
            if missing:
                has = ", ".join(header) or "nothing"
                raise DataError(f"{path} has no column {missing[0]!r}; its header is {has}.")
            wanted = [place for place, name in enumerate(header) if others or name in columns]
            fields: list[list[str]] = [[] for _ in wanted]
            for line in lines:
                if not line:
                    continue
                if len(line) != len(header):
                    raise DataError(
                        f"{path}, line {lines.line_num}: {len(line)} fields where the header has {len(header)}; "
                        "mend or fetch it again."
                    )
                for column, place in zip(fields, wanted, strict=True):
                    column.append(line[place])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path, or --data where the command takes it.") from None
    except csv.Error as fault:
        raise DataError(f"{path}, up to line {lines.line_num}, is no CSV ({fault}); mend or fetch it again.") from None
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} cannot be read as CSV ({fault}); save it as UTF-8, or fetch it again.") from None
    except OSError as fault:
        raise DataError(f"{path} cannot be read as CSV ({fault}); fetch it again.") from None
    return {header[place]: column for column, place in zip(fields, wanted, strict=True)}


class Columns(Mapping[str, np.ndarray]):
    """Fields as columns, each made when it is asked for: one long text makes a whole column long."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._fields, self._made = fields, dict[str, np.ndarray]()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._made:
            self._made[name] = as_column(self._fields[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def as_column(texts: Sequence[str]) -> np.ndarray:
    """int64 ``(N,)`` where every text is a whole number, else the texts."""
    if all(_NUMBER.fullmatch(text) for text in texts):
        return np.array(texts).astype(np.int64)
    return np.array(texts)
