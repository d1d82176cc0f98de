"""A data set as a table: pictures, and columns that say what each picture is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmpnas.data.images import Images
from cmpnas.data.items import UNLABELLED, Items, Protocol, Splits, fingerprint
from cmpnas.data.settings import Condition, DataSettings, Range, Where
from cmpnas.errors import DataError, unknown


@dataclass(frozen=True)
class Table:
    """``N`` pictures and columns of length ``N``, numbers or strings. ``index`` is always there."""

    images: Images
    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            if len(column) != len(self.images):
                raise DataError(
                    f"{len(self.images)} images but {len(column)} values of {name!r}; they must be as many."
                )

    def column(self, name: str) -> np.ndarray:
        """The column called ``name``, or a `DataError` that lists what there is."""
        if name == "index":
            return np.arange(len(self.images))
        if name not in self.columns:
            raise DataError(unknown("column", name, [*self.columns, "index"]))
        return self.columns[name]

    def select(self, where: Where, what: str) -> np.ndarray:
        """Rows that meet every condition of ``where``; never none."""
        chosen = np.ones(len(self.images), bool)
        for name, condition in where.items():
            chosen &= _meets(self.column(name), condition, name)
        rows = np.flatnonzero(chosen)
        if not len(rows):
            raise DataError(f"no item is in {what}: nothing meets {dict(where)}.")
        return rows


def split(table: Table, settings: DataSettings) -> Splits:
    """Divide ``table`` as the recipe says.

    Raises:
        DataError: a split is empty, or an item is in two of train, unlabelled, search and test.
    """
    labels = _codes(table.column(settings.label))
    sources = None if settings.source is None else _codes(table.column(settings.source))
    rows = {
        "train": table.select(settings.train, "train"),
        "search query": table.select(settings.search.query, "search.query"),
        "search gallery": table.select(settings.search.gallery, "search.gallery"),
        "test query": table.select(settings.test.query, "test.query"),
        "test gallery": table.select(settings.test.gallery, "test.gallery"),
    }
    if settings.unlabelled is not None:
        rows["unlabelled"] = table.select(settings.unlabelled, "unlabelled")
    _must_not_mix(rows)

    def items(chosen: np.ndarray, own_labels: np.ndarray) -> Items:
        own = None if sources is None else sources[chosen]
        return Items(_Part(table.images, chosen), own_labels, own, chosen).in_memory(settings.size)

    def part(name: str) -> Items:
        return items(rows[name], labels[rows[name]])

    train = pool = part("train")
    if "unlabelled" in rows:
        hidden = np.full(len(rows["unlabelled"]), UNLABELLED)
        pool = items(np.concatenate([rows["train"], rows["unlabelled"]]), np.concatenate([train.labels, hidden]))
    return Splits(
        train=train,
        pool=pool,
        search=Protocol(part("search query"), part("search gallery")),
        test=Protocol(part("test query"), part("test gallery")),
        total=len(table.images),
        fingerprint=fingerprint(pool),
    )


@dataclass(frozen=True)
class _Part:
    """Some of a collection's pictures, renumbered."""

    images: Images
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: np.ndarray):  # type: ignore[no-untyped-def]
        return self.images.read(self.rows[indices])


def _must_not_mix(rows: Mapping[str, np.ndarray]) -> None:
    splits = {
        "train": rows["train"],
        "search": np.union1d(rows["search query"], rows["search gallery"]),
        "test": np.union1d(rows["test query"], rows["test gallery"]),
        "unlabelled": rows.get("unlabelled", np.empty(0, np.int64)),
    }
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = np.intersect1d(splits[first], splits[second])
            if len(both):
                raise DataError(
                    f"{len(both)} items are in both {first} and {second} (first: item {both[0]}); "
                    "the splits must not share any."
                )


def _meets(column: np.ndarray, condition: Condition, name: str) -> np.ndarray:
    if isinstance(condition, Range):
        if column.dtype.kind not in "iuf":
            raise DataError(f"column {name!r} holds text; 'from' and 'below' need numbers.")
        low = column >= condition.from_ if condition.from_ is not None else True
        high = column < condition.below if condition.below is not None else True
        step = column.astype(np.int64) % condition.every == 0 if condition.every is not None else True
        if condition.but_every is not None:
            step = step & (column.astype(np.int64) % condition.but_every != 0)
        return np.asarray(low & high & step)
    wanted = condition if isinstance(condition, list) else [condition]
    if column.dtype.kind in "US":
        return np.isin(column, [str(value) for value in wanted])
    return np.isin(column, wanted)


def _codes(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    return np.unique(column, return_inverse=True)[1].astype(np.int64)
