"""What a space file may say, checked in full: every mistake of a file in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cmpnas.errors import SpaceError, unknown
from cmpnas.problems import read_yaml, validate
from cmpnas.space.layer import BLOCKS

Activation = Literal["relu", "relu6", "hardswish"]
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Kernel = Annotated[int, Field(gt=0, le=15, strict=True)]
Expansion = Annotated[float, Field(gt=0, le=16)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"a value stands twice in {list(values)}")
    return values


def _odd(values: tuple[int, ...]) -> tuple[int, ...]:
    if even := [value for value in values if value % 2 == 0]:
        raise ValueError(f"kernels must be odd, not {even[0]}")
    return values


class ConvSpec(_Model):
    """A fixed convolution, BatchNorm and activation: the stem, or a last one before pooling."""

    width: PositiveInt
    kernel: Kernel = 3
    stride: Literal[1, 2] = 1
    activation: Activation = "relu"

    @field_validator("kernel")
    @classmethod
    def _kernel_is_odd(cls, value: int) -> int:
        return _odd((value,))[0]


class StageSpec(_Model):
    """A run of blocks of one width; lists are what may vary."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
    block: str
    width: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    depth: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    stride: Literal[1, 2] = 1
    kernel: Annotated[tuple[Kernel, ...], Field(min_length=1)] | None = None
    expansion: Annotated[tuple[Expansion, ...], Field(min_length=1)] | None = None
    activation: Activation = "relu"

    @field_validator("block")
    @classmethod
    def _block_exists(cls, value: str) -> str:
        if value not in BLOCKS:
            raise ValueError(unknown("block", value, BLOCKS))
        return value

    @field_validator("width", "depth", "kernel", "expansion")
    @classmethod
    def _values_are_distinct(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return values if values is None else _distinct(values)

    @field_validator("kernel")
    @classmethod
    def _kernels_are_odd(cls, values: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return values if values is None else _odd(values)

    @field_validator("width")
    @classmethod
    def _widths_divide(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if wrong := [value for value in values if value % 8]:
            raise ValueError(f"widths must be multiples of 8, not {wrong[0]}")
        return values

    @model_validator(mode="after")
    def _choices_fit_the_block(self) -> Self:
        for name in ("kernel", "expansion"):
            needed = name in BLOCKS[self.block].choices
            if needed and getattr(self, name) is None:
                raise ValueError(f"block {self.block!r} needs a list of values for {name!r}")
            if not needed and getattr(self, name) is not None:
                raise ValueError(f"block {self.block!r} has no {name!r}; remove it")
        return self

    def choices(self) -> dict[str, tuple[float, ...]]:
        """The elastic decisions of each block of this stage, in the block's own order."""
        return {name: getattr(self, name) for name in BLOCKS[self.block].choices}


class SpaceSpec(_Model):
    """A whole search space."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    size: Annotated[int, Field(ge=8, le=1024, strict=True)]
    embedding_dim: PositiveInt
    stem: ConvSpec
    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1)]
    last: ConvSpec | None = None

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Self:
        names = [stage.name for stage in self.stages]
        if twice := [name for index, name in enumerate(names) if name in names[:index]]:
            raise ValueError(f"two stages are named {twice[0]!r}")
        if reserved := {"stem", "last", "embed"} & set(names):
            raise ValueError(f"a stage must not be named {sorted(reserved)[0]!r}, a name of the frame")
        side = self.size
        for stride in (self.stem.stride, *(stage.stride for stage in self.stages)):
            if stride == 2 and side == 1:
                raise ValueError("strides run past a 1x1 map; use fewer strides of 2 or a larger size")
            side = -(-side // stride)
        return self


def read_spec(path: Path) -> SpaceSpec:
    """Read and check one space file.

    Raises:
        SpaceError: it cannot be read, or says something that is not allowed; all mistakes listed.
    """
    return check_spec(read_yaml(path, SpaceError), str(path))


def check_spec(content: dict[str, object], where: str) -> SpaceSpec:
    """Check the content of a space file; ``where`` names it in the error."""
    return validate(SpaceSpec, content, where, SpaceError)
