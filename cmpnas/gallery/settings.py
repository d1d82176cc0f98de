"""The ``gallery`` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cmpnas.data.augment import Augment
from cmpnas.train.loop import Plan

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MarginSettings(_Settings):
    """The angular-margin softmax of a gallery model."""

    kind: Literal["arcface", "cosface"] = "arcface"
    margin: Annotated[float, Field(ge=0, lt=1.5)] = 0.15
    scale: Annotated[float, Field(gt=0)] = 32.0


class SingleSettings(_Settings):
    """A gallery model trained here: one architecture of a space."""

    kind: Literal["single"]
    name: Name
    space: str
    arch: Literal["smallest", "largest"] | dict[str, int | float | str] = "largest"
    embedding_dim: Annotated[int, Field(gt=1)] = 128
    head: MarginSettings = MarginSettings()
    augment: Augment = Augment()
    train: Plan


class PrecomputedSettings(_Settings):
    """Saved embeddings: an npz with ``embeddings`` ``(N, D)``, row ``i`` for item ``i`` of the data set,
    and optionally ``classifier`` ``(K, D)`` in the order of the sorted training labels.

    ``mflops`` is what the model that made them costs an image: a cost is stated, never guessed.
    """

    kind: Literal["precomputed"]
    name: Name
    file: str
    mflops: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    head: MarginSettings = MarginSettings()


AnyGallery = Annotated[SingleSettings | PrecomputedSettings, Field(discriminator="kind")]
