"""The ``galleries`` of a recipe: other models, and what is made of several embeddings of an image."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cmpnas.data.augment import Augment
from cmpnas.gallery.settings import AnyBrought, Name, PrecomputedSettings, SingleSettings
from cmpnas.strict import Strict

_RANGE = 1000  # of weights in one mean
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RejectSettings(Strict):
    """Which gallery images an ensemble leaves out of its index, by how far its members are apart on them.

    ``coverage``: the share that stays, those of the least distance. ``distance``: the largest mean pairwise cosine
    distance that stays.
    """

    coverage: Annotated[float, Field(gt=0, le=1)] | None = None
    distance: Annotated[float, Field(ge=0, le=2)] | None = None

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        if (self.coverage is None) == (self.distance is None):
            raise ValueError("give either coverage or distance")
        return self


class EnsembleSettings(Strict):
    """The mean of the mapped embeddings of several of ``galleries``, by name; the anchor itself may be one.

    ``members`` maps their names to their weights in the mean; a list of names is of equals.
    """

    kind: Literal["ensemble"]
    name: Name
    members: dict[Name, Weight]
    reject: RejectSettings | None = None

    @field_validator("members", mode="before")
    @classmethod
    def _lists_are_of_equals(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
            raise ValueError("give a list of names, or names with weights such as {first: 1, second: 0.5}")
        if twice := [name for n, name in enumerate(value) if name in value[:n]]:
            raise ValueError(f"member {twice[0]!r} is named twice; give another name to another transform of one model")
        return dict.fromkeys(value, 1.0)

    @field_validator("members")
    @classmethod
    def _are_several(cls, value: dict[str, float]) -> dict[str, float]:
        if len(value) < 2:
            raise ValueError(f"an ensemble has two members or more; there are {len(value)}")
        least, most = min(value, key=value.__getitem__), max(value, key=value.__getitem__)
        if value[most] > _RANGE * value[least]:
            raise ValueError(
                f"{most!r} weighs more than {_RANGE} times what {least!r} does, which then says nothing; leave it out"
            )
        return value


class ViewsSettings(Strict):
    """The mean of the anchor's embeddings of each image and of ``views`` views of it, as ``augment`` changes pictures.

    The views are the same for every image. What the anchor was trained with is a good choice, but for ``erase``.
    """

    kind: Literal["views"]
    name: Name
    views: Annotated[int, Field(ge=1, le=63)]
    augment: Augment

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.augment == Augment():
            raise ValueError(
                "augment changes nothing, so all views are the image itself; give flip, zoom, shift or turn"
            )
        return self


AnyOption = Annotated[
    SingleSettings | PrecomputedSettings | AnyBrought | EnsembleSettings | ViewsSettings, Field(discriminator="kind")
]
