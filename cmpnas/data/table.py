"""A data set as a table: pictures, and columns that say what each picture is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cmpnas.data.images import Images, in_memory
from cmpnas.data.items import UNLABELLED, Beside, Items, Protocol, Splits, fingerprint
from cmpnas.data.settings import Condition, Conditions, DataSettings, Range, Scalar, Where
from cmpnas.errors import DataError, unknown


@dataclass(frozen=True)
class Table:
    """``N`` pictures and columns of length ``N``, numbers or strings.

    ``index`` is the row number where no column is called so.

    Attributes:
        same: int64 ``(N,)``, the first row that shows the same picture, where rows may repeat one.
    """

    images: Images
    columns: Mapping[str, np.ndarray]
    same: np.ndarray | None = None

    def column(self, name: str) -> np.ndarray:
        """The column called ``name``, or a `DataError` that lists what there is."""
        if name in self.columns:
            column = self.columns[name]
            if len(column) != len(self.images):
                raise DataError(
                    f"{len(self.images)} images but {len(column)} values of {name!r}; they must be as many."
                )
            return column
        if name == "index":
            return np.arange(len(self.images))
        raise DataError(unknown("column", name, [*self.columns, "index"]))

    def select(self, where: Where, what: str) -> np.ndarray:
        """Rows that meet every condition of ``where``, or of an entry of it; none of which meets nothing."""
        several = [where] if isinstance(where, dict) else where
        return np.unique(np.concatenate([self._meet(conditions, what) for conditions in several]))

    def _meet(self, conditions: Conditions, what: str) -> np.ndarray:
        chosen = np.ones(len(self.images), bool)
        for name, condition in conditions.items():
            chosen &= _meets(self.column(name), condition, name)
        rows = np.flatnonzero(chosen)
        if not len(rows):
            told = {name: _told(condition) for name, condition in conditions.items()}
            raise DataError(f"no item is in {what}: nothing meets {told}.")
        return rows

    def labels(self, name: str, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """The column called ``name`` as classes: int64 ``(N,)``; items of ``rows``, by what they are for, need one."""
        column = self.column(name)
        lacking = _empty(column)
        for what, own in rows.items():
            if lacking[own].any():
                raise DataError(
                    f"item {own[lacking[own]][0]} of {what} has no {name!r}; fill it in, or leave the item out "
                    "(pictures of data.pool alone need none)."
                )
        return _codes(column)

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Which pictures ``rows`` show: numbers that are equal where pictures are."""
        return rows if self.same is None else self.same[rows]


def split(table: Table, settings: DataSettings) -> Splits:
    """Divide ``table`` as the recipe says.

    Raises:
        DataError: a split is empty, or splits share items, or a query is in its own gallery.
    """
    sources = None if settings.source is None else _sources(table.column(settings.source))
    rows = {
        "train": table.select(settings.train, "train"),
        "pool": table.select(settings.pool or settings.train, "pool"),
        "search query": table.select(settings.search.query, "search.query"),
        "search gallery": table.select(settings.search.gallery, "search.gallery"),
        "test query": table.select(settings.test.query, "test.query"),
        "test gallery": table.select(settings.test.gallery, "test.gallery"),
    }
    labels = table.labels(settings.label, {part: own for part, own in rows.items() if part != "pool"})
    shown = {part: table.pictures(own) for part, own in rows.items()}
    learned = np.union1d(shown["train"], shown["pool"])
    asked = {name: np.union1d(shown[f"{name} query"], shown[f"{name} gallery"]) for name in ("search", "test")}
    must_not_mix({"train or pool": learned} | asked)
    beside = None if settings.finish is None else _beside(table, settings.finish, shown)
    _must_not_find_itself(shown, None if sources is None else {part: sources[own] for part, own in rows.items()})

    def items(part: str, pictures: Images, own_labels: np.ndarray) -> Items:
        own = None if sources is None else sources[rows[part]]
        return Items(pictures, own_labels, own, rows[part])

    def task(name: str) -> Protocol:
        query, gallery = (
            items(part, in_memory(Part(table.images, rows[part]), settings.size), labels[rows[part]])
            for part in (f"{name} query", f"{name} gallery")
        )
        return Protocol(query, gallery)

    # Train and pool share most of their pictures, which are decoded once for both.
    both = np.union1d(rows["train"], rows["pool"])
    shared = in_memory(Part(table.images, both), settings.size)
    train, pool = (
        items(part, Part(shared, np.searchsorted(both, rows[part])), own_labels)
        for part, own_labels in (
            ("train", labels[rows["train"]]),
            ("pool", np.where(np.isin(rows["pool"], rows["train"]), labels[rows["pool"]], UNLABELLED)),
        )
    )
    search = task("search")
    return Splits(
        train=train,
        pool=pool,
        search=search,
        open_test=lambda: task("test"),
        beside=beside,
        total=len(table.images),
        fingerprint=fingerprint((pool, search.query, search.gallery), rows, labels, sources),
    )


@dataclass(frozen=True)
class Part:
    """Some of a collection's pictures, renumbered."""

    images: Images
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: np.ndarray):  # type: ignore[no-untyped-def]
        return self.images.read(self.rows[indices])


def _beside(table: Table, where: Where, parts: Mapping[str, np.ndarray]) -> Beside:
    """What meets ``where``, less the pictures of the pool; ``parts`` are the pictures that each part shows."""
    rows = table.select(where, "finish")
    shown, first = np.unique(table.pictures(rows), return_index=True)
    new = ~np.isin(shown, parts["pool"])
    rows, shown = rows[first[new]], shown[new]
    if not len(rows):
        raise DataError("all items of data.finish are in the pool; give it others, or leave it out.")
    must_not_mix({"finish": shown, "test.query": parts["test query"]})
    items = Items(Part(table.images, rows), np.full(len(rows), UNLABELLED), None, rows)
    touched = frozenset(name for name, own in parts.items() if np.isin(shown, own).any())
    return Beside(items, fingerprint((items,), {"finish": rows}, np.empty(0), None), touched)


def must_not_mix(splits: Mapping[str, np.ndarray]) -> None:
    """Refuse pictures that are in two of ``splits``.

    Raises:
        DataError: there are some.
    """
    for first, second in combinations(splits, 2):
        both = np.intersect1d(splits[first], splits[second])
        if len(both):
            raise DataError(
                f"{len(both)} items are in both {first} and {second} (first: item {both[0]}); "
                "the splits must not share any."
            )


def _must_not_find_itself(rows: Mapping[str, np.ndarray], sources: Mapping[str, np.ndarray] | None) -> None:
    """A picture may be query and gallery item if it has one source as both: items of that are ignored."""
    for name in ("search", "test"):
        asked, found = (f"{name} {side}" for side in ("query", "gallery"))
        both = np.intersect1d(rows[asked], rows[found])
        if len(both) and sources is not None:
            known = np.stack([np.concatenate([side[asked], side[found]]) for side in (rows, sources)])
            known = np.unique(known[:, np.isin(known[0], both)], axis=1)
            both, counts = np.unique(known[0], return_counts=True)
            both = both[counts > 1]
        if len(both):
            raise DataError(
                f"{len(both)} items are both query and gallery of {name} and would find themselves (first: item "
                f"{both[0]}); separate them, or give each one source in a 'source' column, whose items are ignored."
            )


def _meets(column: np.ndarray, condition: Condition, name: str) -> np.ndarray:
    if isinstance(condition, Range):
        if column.dtype.kind not in "iuf":
            raise DataError(f"column {name!r} holds text; 'from' and 'below' need numbers.")
        known = ~_empty(column)
        low = column >= condition.from_ if condition.from_ is not None else True
        high = column < condition.below if condition.below is not None else True
        block = np.where(known, column, 0).astype(np.int64) // condition.block
        step = block % condition.every == 0 if condition.every is not None else True
        if condition.but_every is not None:
            step = step & (block % condition.but_every != 0)
        return np.asarray(known & low & high & step)
    wanted = condition if isinstance(condition, list) else [condition]
    if column.dtype.kind in "US":
        return np.isin(column, [text for value in wanted for text in _spelled(value)])
    try:
        return np.isin(column, [float(value) if isinstance(value, str) else value for value in wanted])
    except ValueError:
        raise DataError(f"column {name!r} holds numbers; none can be {_told(condition)!r}.") from None


def _spelled(value: Scalar) -> list[str]:
    """How a text column may hold ``value``: YAML reads yes, on and true as one."""
    if not isinstance(value, bool):
        return [str(value)]
    words = ("true", "yes", "on") if value else ("false", "no", "off")
    return [spelled for word in words for spelled in (word, word.title(), word.upper())]


def _told(condition: Condition) -> Any:
    """A condition as the recipe says it."""
    if isinstance(condition, Range):
        return condition.model_dump(by_alias=True, exclude_defaults=True)
    return condition


def _sources(column: np.ndarray) -> np.ndarray:
    """Numbers of sources, int64 ``(N,)``; an item without one has its own."""
    codes, lacking = _codes(column), _empty(column)
    codes[lacking] = len(codes) + np.arange(lacking.sum())
    return codes


def _empty(column: np.ndarray) -> np.ndarray:
    """Where nothing stands: bool ``(N,)``."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    return column == "" if column.dtype.kind == "U" else np.zeros(len(column), bool)


def _codes(column: np.ndarray) -> np.ndarray:
    return np.unique(column, return_inverse=True)[1].astype(np.int64)
