"""The ``data`` section of a recipe: where the files are and which items are what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, FiniteFloat, Tag

from cmpnas.strict import Strict

Scalar = bool | int | float | str
Count = Annotated[int, Field(ge=4)]
Shots = Annotated[int, Field(ge=0)]


class Range(Strict):
    """Numbers from ``from`` up to, not including, ``below``; only ``every`` n-th, or all ``but_every`` n-th.

    With ``block`` the n-th block of so many numbers, for numbers that are near resemble each other.
    """

    model_config = ConfigDict(populate_by_name=True)

    from_: FiniteFloat | None = Field(None, alias="from")
    below: FiniteFloat | None = None
    every: Annotated[int, Field(gt=1)] | None = None
    but_every: Annotated[int, Field(gt=1)] | None = None
    block: Annotated[int, Field(ge=1)] = 1


def _form(condition: Any) -> str | None:
    """Which form a condition has; None for one that is none."""
    if isinstance(condition, dict | Range):
        return "(range)"
    if isinstance(condition, list):
        return "(list)" if condition and all(isinstance(value, Scalar) for value in condition) else None
    return "(value)" if isinstance(condition, Scalar) else None


Condition = Annotated[
    Annotated[Range, Tag("(range)")] | Annotated[list[Scalar], Tag("(list)")] | Annotated[Scalar, Tag("(value)")],
    Discriminator(
        _form,
        custom_error_type="condition",
        custom_error_message="must be a value (quote dates), a list of values, or a range: from, below, every, "
        "but_every, block",
    ),
]
#: Column name to the value, values or range that it must have; all must hold.
Conditions = dict[str, Condition]
#: An item must meet all of some conditions, or those of one entry of a list of such.
Where = Annotated[
    Annotated[Conditions, Tag("(conditions)")] | Annotated[list[Conditions], Field(min_length=1), Tag("(any of)")],
    Discriminator(lambda where: "(any of)" if isinstance(where, list) else "(conditions)"),
]


class Task(Strict):
    """Which items are queries and which are the gallery."""

    query: Where
    gallery: Where


class DataSettings(Strict):
    """What every reader needs.

    ``size`` is the side that pictures are resized to. ``label`` and ``source`` name columns; a gallery
    item of a query's own source is ignored. ``folder`` is where the files are below the data folder,
    if not in it. ``pool`` is what query networks learn from, by default ``train``; the labels of pictures
    outside ``train`` are never looked at, so a log of queries serves. ``finish`` is what picks learn from beside the
    pool, once the search has chosen them, without labels: pictures of ``search`` and of the index that ``test`` asks
    in may be among it, none of the queries of ``test``.
    """

    size: Annotated[int, Field(ge=8, le=1024)]
    folder: str = ""
    label: str = "label"
    source: str | None = None
    train: Where
    pool: Where | None = None
    finish: Where | None = None
    search: Task
    test: Task


class ShopSettings(DataSettings):
    """The embedded renderer; columns ``label``, ``role`` (consumer, catalogue), ``split``, ``view``.

    Shots are (catalogue, consumer) pictures of each identity.
    """

    reader: Literal["shop"]
    size: Annotated[int, Field(ge=8, le=512)]
    seed: int = 0
    train_identities: Count = 480
    unlabelled_identities: Count = 480
    search_identities: Count = 120
    test_identities: Count = 200
    train_shots: tuple[Shots, Shots] = (3, 13)
    unlabelled_shots: tuple[Shots, Shots] = (0, 8)
    other_shots: tuple[Shots, Shots] = (4, 4)
    train: Where = {"split": "train"}
    pool: Where | None = {"split": ["train", "unlabelled"], "role": "consumer"}
    search: Task = Task(query={"split": "search", "role": "consumer"}, gallery={"split": "search", "role": "catalogue"})
    test: Task = Task(query={"split": "test", "role": "consumer"}, gallery={"split": "test", "role": "catalogue"})


class IdxSettings(DataSettings):
    """Pairs of idx.gz files; columns ``label`` and ``file`` (the name of the pair), ``index`` within it."""

    reader: Literal["idx"]
    files: Annotated[dict[str, tuple[str, str]], Field(min_length=1)]


class NpzSettings(DataSettings):
    """One npz; every array as long as the images is a column, ``per_class`` arrays are indexed by label.

    ``images`` names an array of pictures ``(N, H, W[, 3])``, or of JPEG strings cut at ``offsets``.
    """

    reader: Literal["npz"]
    file: str
    images: str
    offsets: str | None = None
    per_class: tuple[str, ...] = ()


class FolderSettings(DataSettings):
    """Picture files listed in a CSV with a header; every field is a column, ``image`` names the path's."""

    reader: Literal["folder"]
    table: str
    image: str


class IdentitiesSettings(DataSettings):
    """A folder of picture files for each identity, as face sets are kept.

    Columns: ``label`` (the folder's name), ``number`` (of the identity, counted in the order of names) and
    ``picture`` (its number within the identity).
    """

    reader: Literal["identities"]


class DeepFashion2Settings(DataSettings):
    """The official folders ``train`` and ``validation``, each of ``image`` and ``annos``; an item is one box.

    Columns: ``split`` (the folder), ``image`` (name of the picture), ``item`` (its number in the picture),
    ``source`` (user, shop), ``pair_id``, ``style``, ``category_id``, and ``label`` (split, pair and style).
    Items of style 0 have no counterpart: they serve in a gallery and in the pool alone.
    """

    reader: Literal["deepfashion2"]
    splits: Annotated[tuple[str, ...], Field(min_length=1)] = ("train", "validation")


class GLDv2Settings(DataSettings):
    """Google Landmarks v2: ``table`` is train_clean.csv or train.csv, ``images`` the folder of ``a/b/c/abc....jpg``.

    Columns: ``id``, ``label`` (the landmark's id), ``picture`` (its number within the landmark).
    """

    reader: Literal["gldv2"]
    table: str = "train_clean.csv"
    images: str = "train"


AnyData = Annotated[
    ShopSettings
    | IdxSettings
    | NpzSettings
    | FolderSettings
    | IdentitiesSettings
    | DeepFashion2Settings
    | GLDv2Settings,
    Field(discriminator="reader"),
]
