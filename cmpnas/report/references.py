"""Networks to draw beside a front: made by hand, or finished."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from cmpnas.errors import RunError
from cmpnas.files import read_json
from cmpnas.problems import validate
from cmpnas.strict import Strict

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Point(Strict):
    """A network to compare with: a hand-made one, or a pick trained to the end."""

    name: str
    score: Finite
    interval: tuple[Finite, Finite] | None = None
    mflops: Positive | None = None
    params_m: Positive | None = None
    latency_ms: Positive | None = None

    @model_validator(mode="after")
    def _within(self) -> Point:
        if self.interval is not None and not self.interval[0] <= self.score <= self.interval[1]:
            raise ValueError(f"score {self.score} is not within its interval {list(self.interval)}")
        return self


class References(Strict):
    """A file of such networks, all scored in one metric, on the split and gallery of the runs beside them."""

    metric: str
    points: Annotated[tuple[Point, ...], Field(min_length=1)]


def read_references(path: Path, metric: str) -> tuple[Point, ...]:
    """The networks of a file of `References`.

    Raises:
        RunError: it cannot be read, is something else, or is of another metric than ``metric``.
    """
    references = validate(References, read_json(path), str(path), RunError)
    if references.metric != metric:
        raise RunError(f"{path} is scored in {references.metric!r}, the runs in {metric!r}; score it in {metric!r}.")
    return references.points
