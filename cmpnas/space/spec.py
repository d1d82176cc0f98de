"""What a space file may say, checked in full: every mistake of a file in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from cmpnas.errors import SpaceError
from cmpnas.problems import read_yaml, validate
from cmpnas.space.arch import Value
from cmpnas.space.blocks import SHUFFLE_OPERATORS, stage_block
from cmpnas.space.consistency import inconsistencies
from cmpnas.strict import Strict

Activation = Literal["relu", "relu6", "hardswish"]
PositiveInt = Annotated[int, Field(gt=0, strict=True)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"kernels must be odd, not {value}")
    return value


Kernel = Annotated[int, Field(gt=0, le=15, strict=True), AfterValidator(_odd)]
Expansion = Annotated[float, Field(gt=0, le=16)]
Width = Annotated[int, Field(gt=0, le=65536, strict=True)]
Depth = Annotated[int, Field(gt=0, le=200, strict=True)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=8, le=1024, strict=True)]


def _option_name(name: str) -> str:
    if name in StageSpec.model_fields:
        raise ValueError(f"{name!r} is a key of the stage itself; give it there, not under options")
    return name


OptionName = Annotated[str, AfterValidator(_option_name)]


class ConvSpec(Strict):
    """A fixed convolution, BatchNorm and activation: the last one before pooling."""

    width: PositiveInt
    kernel: Kernel = 3
    stride: Literal[1, 2] = 1
    activation: Activation = "relu"


class StemSpec(ConvSpec):
    """The first convolution, and perhaps a 3x3 max-pooling of stride 2 after it."""

    pool: bool = False


def _listed(given: Any) -> Any:
    """A single value is a list of one."""
    return (given,) if isinstance(given, str | int | float) else given


def _distinct(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if values is not None and len(set(values)) != len(values):
        raise ValueError(f"a value stands twice in {list(values)}")
    return values


T = TypeVar("T")
#: What may vary: a list of values, or one that is fixed.
Choice = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_listed)]


class StageSpec(Strict):
    """A run of blocks of one width; lists are what may vary.

    ``options`` holds decisions that only the user's own block knows. ``separate`` names decisions
    whose every value has weights of its own (single path); the others share (entangled).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    block: str
    width: Choice[Width]
    depth: Choice[Depth]
    stride: Literal[1, 2] = 1
    kernel: Choice[Kernel] | None = None
    expansion: Choice[Expansion] | None = None
    operator: Choice[Literal[SHUFFLE_OPERATORS]] | None = None  # type: ignore[valid-type]
    se: Choice[Ratio] | None = None
    activation: Choice[Activation] | None = None
    options: dict[OptionName, Choice[int | float | str]] = {}
    separate: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()

    @field_validator("options")
    @classmethod
    def _options_are_distinct(cls, options: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        return {name: _distinct(values) or () for name, values in options.items()}

    @field_validator("block")
    @classmethod
    def _block_exists(cls, value: str) -> str:
        try:
            stage_block(value)
        except SpaceError as fault:
            raise ValueError(str(fault).removesuffix(".")) from None
        return value

    _values_are_distinct = field_validator("width", "depth", "kernel", "expansion", "operator", "se", "activation")(
        _distinct
    )

    def values(self, decision: str) -> tuple[Value, ...]:
        """What ``decision`` of this stage may be."""
        given = self.options.get(decision, getattr(self, decision, None))
        return (stage_block(self.block).defaults[decision],) if given is None else given


class SpaceSpec(Strict):
    """A whole search space.

    ``resolution`` lists the sides at which the network may work; pictures arrive at ``size``, the
    largest of them.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    size: Side
    embedding_dim: PositiveInt
    resolution: Choice[Side] | None = None
    stem: StemSpec
    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1)]
    last: ConvSpec | None = None

    _values_are_distinct = field_validator("resolution")(_distinct)


def read_spec(path: Path) -> SpaceSpec:
    """Read and check one space file.

    Raises:
        SpaceError: it cannot be read, or says something that is not allowed; all mistakes listed.
    """
    return check_spec(read_yaml(path, SpaceError), str(path))


def check_spec(content: dict[str, Any], where: str) -> SpaceSpec:
    """Check the content of a space file; ``where`` names it in the error."""
    return validate(SpaceSpec, content, where, SpaceError, also=inconsistencies(content))
