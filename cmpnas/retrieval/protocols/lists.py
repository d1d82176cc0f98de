"""The CSV lists that benchmarks are published as."""

from __future__ import annotations

import csv
from pathlib import Path

from cmpnas.errors import DataError

_LONGEST_FIELD = 2**30  # thousands of image ids stand in one


def read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV that has at least these columns.

    Raises:
        DataError: it is missing, or a column or a field is.
    """
    try:
        csv.field_size_limit(_LONGEST_FIELD)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                has = ", ".join(reader.fieldnames or ()) or "nothing"
                raise DataError(f"{path} has no column {missing[0]!r}; its header is {has}.")
            rows = list(reader)
    except OSError:
        raise DataError(f"{path} does not exist; name the folder with the benchmark's own files.") from None
    except (UnicodeDecodeError, csv.Error) as fault:
        raise DataError(f"{path} cannot be read as CSV ({fault}); fetch it again.") from None
    for number, row in enumerate(rows, 2):
        if any(row[name] is None for name in columns):
            raise DataError(f"{path} is cut off in line {number}; fetch it again.")
    return rows
