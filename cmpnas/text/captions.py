"""Pictures with captions, and the three splits of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from string import Formatter

import numpy as np
from torch import Tensor

from cmpnas.data.augment import draws
from cmpnas.data.items import Items, fingerprint
from cmpnas.data.load import data_folder
from cmpnas.data.settings import AnyData, ShopSettings
from cmpnas.data.table import Part, Table, must_not_mix
from cmpnas.errors import DataError, unknown
from cmpnas.retrieval.relevance import Neighbours
from cmpnas.text.settings import CaptionSettings


@dataclass(frozen=True)
class Captioned:
    """Pictures and captions; a caption describes every picture of its label.

    Attributes:
        items: ``N`` pictures with int64 labels; None where only regions are known.
        regions: ``(N, R, C)`` of the pictures, where the data bring them.
        labels: int64 ``(N,)``, of the pictures.
        captions: ``C`` texts.
        caption_labels: int64 ``(C,)``.
        names: what a person calls each picture, ``N``.
    """

    items: Items | None
    regions: np.ndarray | None
    labels: np.ndarray
    captions: list[str]
    caption_labels: np.ndarray
    names: list[str]

    def __post_init__(self) -> None:
        if blank := [number for number, text in enumerate(self.captions) if not text.strip()]:
            raise DataError(f"{len(blank)} of {len(self.captions)} captions are empty, the first number {blank[0]}.")
        if lost := (~np.isin(self.caption_labels, self.labels)).sum():
            first = self.captions[int(np.flatnonzero(~np.isin(self.caption_labels, self.labels))[0])]
            raise DataError(f"{lost} captions describe no picture of their split, the first is {first!r}.")

    def __len__(self) -> int:
        return len(self.labels)

    def asking(self, count: int | None) -> Captioned:
        """The same pictures with at most ``count`` captions, spread over all of them."""
        if count is None or count >= len(self.captions):
            return self
        rows = np.linspace(0, len(self.captions) - 1, count).astype(np.int64)
        return replace(self, captions=[self.captions[row] for row in rows], caption_labels=self.caption_labels[rows])

    @cached_property
    def _own(self) -> Neighbours:
        own, of_captions = self.labels, self.caption_labels
        return Neighbours.of_equal(own, of_captions, len(own), len(of_captions), "labels")

    def pick(self, indices: Tensor, view: int) -> np.ndarray:
        """For each of the pictures ``indices``, int64 ``(B,)``, one of its captions, another in another view."""
        own, rows = self._own, indices.numpy()
        counts, chance = own.counts[rows], draws(indices, view)[:, -1].numpy()
        if not counts.all():
            raise DataError(f"picture {self.names[int(rows[counts == 0][0])]!r} has no caption; training needs one.")
        place = np.minimum((chance * counts).astype(np.int64), counts - 1)
        return own.members[own.starts[own.group[rows]] + place]


@dataclass
class CaptionedSplits:
    """``train`` moves weights, ``search`` guides the search and the plan, ``test`` is opened by `evaluate` only."""

    train: Captioned
    search: Captioned
    open_test: Callable[[], Captioned]
    fingerprint: str

    @cached_property
    def test(self) -> Captioned:
        """The test split; nothing of it is read before it is asked for."""
        return self.open_test()


def load_captioned(data: AnyData, how: CaptionSettings, given: str | None = None) -> CaptionedSplits:
    """Read pictures by ``data`` and say of them what ``how`` says.

    Pictures are trained on by ``train``; in a task the captions of its ``query`` pictures ask for its ``gallery``. No
    picture is read before it is needed.

    Raises:
        DataError: data are missing or damaged, splits share pictures, a template names no column, or captions describe
            no picture of their split.
    """
    root = data_folder(data.folder, given) if not isinstance(data, ShopSettings) else None
    table: Table = import_module(f"cmpnas.data.readers.{data.reader}").read(data, root)
    rows = {"train": table.select(data.train, "train")}
    for name, task in (("search", data.search), ("test", data.test)):
        rows[name] = table.select(task.gallery, f"{name}.gallery")
        rows[f"{name} query"] = table.select(task.query, f"{name}.query")
    labels = table.labels(data.label, rows)
    shown = {part: table.pictures(own) for part, own in rows.items()}
    asked = {name: np.union1d(shown[name], shown[f"{name} query"]) for name in ("search", "test")}
    # Pictures, and those that captions are of; a label may be in several splits.
    must_not_mix({"train": shown["train"]} | asked)
    # What can be known of the test split before it is opened, when everything will have been trained.
    if lost := (~np.isin(labels[rows["test query"]], labels[rows["test"]])).sum():
        raise DataError(f"{lost} captions of the test split describe no picture of it; change data.test.")
    texts = {template: _texts(table, template) for template in {*how.train, how.query}}
    templates = {"train": how.train or (how.query,), "search query": (how.query,), "test query": (how.query,)}
    for part, own in templates.items():
        for template in own:
            if blank := [row for row in rows[part] if not texts[template][row]]:
                raise DataError(
                    f"{len(blank)} of {len(rows[part])} items of {part} have an empty caption by {template!r}, the "
                    f"first is item {blank[0]}; fill it in, or leave it out."
                )

    def captioned(part: str, asking: np.ndarray, templates: tuple[str, ...]) -> Captioned:
        own = rows[part]
        items = Items(Part(table.images, own), labels[own], None, own)
        said = {(int(labels[row]), texts[template][row]): None for template in templates for row in asking}
        names = [texts[how.query][row] for row in own]
        return Captioned(items, None, labels[own], [t for _, t in said], np.array([n for n, _ in said]), names)

    train = captioned("train", rows["train"], templates["train"])
    search = captioned("search", rows["search query"], templates["search query"])
    digest = hashlib.sha256("\n".join([*train.captions, *search.captions]).encode()).hexdigest()
    return CaptionedSplits(
        train,
        search,
        lambda: captioned("test", rows["test query"], templates["test query"]),
        fingerprint((train.items, search.items), rows, labels, None)[:6] + digest[:6],  # type: ignore[arg-type]
    )


def _texts(table: Table, template: str) -> list[str]:
    """``template`` filled for every row; bars between values are read as spaces."""
    fields = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    if not fields:
        raise DataError(f"caption template {template!r} names no column, as in '{{name}}, {{keywords}}'.")
    for name in fields:
        if name not in table.columns:
            raise DataError(unknown("column", name, table.columns, f"It is named in template {template!r}."))
    columns = {name: table.columns[name] for name in fields}
    filled = (template.format_map(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))
    return [" ".join(text.replace("|", " ").replace("_", " ").split()).strip(" ,") for text in filled]
