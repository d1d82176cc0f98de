"""From a space file to its graph of partial networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from cmpnas.cost.value import Cost, halved
from cmpnas.errors import SpaceError
from cmpnas.space.arch import Choices, Value
from cmpnas.space.blocks import block_of, stage_block
from cmpnas.space.lattice import Lattice
from cmpnas.space.layer import Layer
from cmpnas.space.spec import ConvSpec, SpaceSpec, StageSpec, StemSpec, check_spec

_Reached = dict[int, int]  # the node at which each width is known


@dataclass(frozen=True)
class Declared:
    """A space by its file's content."""

    spec: SpaceSpec

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def size(self) -> int:
        return self.spec.size

    @property
    def embedding_dim(self) -> int:
        return self.spec.embedding_dim

    def lattice(self, size: int, embedding_dim: int) -> Lattice:
        """The space at another input size (smaller resolutions in proportion, in multiples of 8) and width."""
        content = self.spec.model_dump() | {"size": size, "embedding_dim": embedding_dim}
        if self.spec.resolution is not None and size != self.size:
            scaled = {max(8, round(side * size / self.size / 8) * 8) for side in self.spec.resolution}
            content["resolution"] = sorted({side for side in scaled if side < size} | {size})
        return grow(check_spec(content, f"space {self.name!r} at {size} px"))


def grow(spec: SpaceSpec) -> Lattice:
    """The lattice of ``spec``."""
    lattice = Lattice()
    root = lattice.add()
    ends: list[tuple[int, int, int]] = []  # node, width, side
    for side in spec.resolution or (spec.size,):
        node = root
        if spec.resolution is not None:
            node = lattice.add()
            layer = Layer("resize", "resize", 3, 3, 1, spec.size, (("from", spec.size), ("to", side)))
            _join(lattice, root, node, layer, _choices("resolution", side, spec.resolution))
        reached, left = _stem(lattice, node, spec.stem, side)
        for stage in spec.stages:
            reached = _stage(lattice, stage, reached, left)
            left = halved(left, stage.stride)
        if spec.last is not None:
            reached, left = _last(lattice, reached, spec.last, left)
        ends += [(node, width, left) for width, node in reached.items()]
    sink = lattice.add()
    for node, width, side in ends:
        _join(lattice, node, sink, Layer("embed", "embed", width, spec.embedding_dim, 1, side))
    return lattice


def _choices(name: str, value: Any, values: tuple[Any, ...]) -> Choices:
    """A decision that was taken; one with a single value is none."""
    return ((name, value),) if len(values) > 1 else ()


def _join(lattice: Lattice, origin: int, target: int, layer: Layer | None, choices: Choices = ()) -> None:
    lattice.join(origin, target, block_of(layer).cost(layer) if layer else Cost(), layer, choices)


def _conv(position: str, cin: int, size: int, spec: ConvSpec) -> Layer:
    options = (("kernel", spec.kernel), ("activation", spec.activation))
    return Layer(position, "conv", cin, spec.width, spec.stride, size, options)


def _stem(lattice: Lattice, node: int, spec: StemSpec, size: int) -> tuple[_Reached, int]:
    after = lattice.add()
    _join(lattice, node, after, _conv("stem", 3, size, spec))
    size = halved(size, spec.stride)
    if spec.pool:
        node, after = after, lattice.add()
        _join(lattice, node, after, Layer("pool", "pool", spec.width, spec.width, 2, size))
        size = halved(size, 2)
    return {spec.width: after}, size


def _last(lattice: Lattice, reached: _Reached, spec: ConvSpec, size: int) -> tuple[_Reached, int]:
    after = lattice.add()
    for width, node in reached.items():
        _join(lattice, node, after, _conv("last", width, size, spec))
    return {spec.width: after}, halved(size, spec.stride)


def _stage(lattice: Lattice, stage: StageSpec, reached: _Reached, size: int) -> _Reached:
    """Append one stage. A chain of blocks for every combination of what the stage decides as a whole."""
    whole = stage_block(stage.block).whole
    looks = list(product(*(stage.values(name) for name in whole)))
    starts = []
    for (cin, origin), width, depth, look in product(reached.items(), stage.width, stage.depth, looks):
        taken = _choices(f"{stage.name}.width", width, stage.width)
        taken += _choices(f"{stage.name}.depth", depth, stage.depth)
        for name, value in zip(whole, look, strict=True):
            taken += _choices(f"{stage.name}.{name}", value, stage.values(name))
        node = lattice.add()
        _join(lattice, origin, node, None, taken)
        starts.append((node, cin, width, depth, look))
    # Nodes are numbered position by position, so that every edge leads to a higher number.
    inner = {
        (width, depth, look, done): lattice.add()
        for done in range(1, max(stage.depth))
        for width, depth, look in product(stage.width, stage.depth, looks)
        if done < depth
    }
    ends = {width: lattice.add() for width in stage.width}
    for node, cin, width, depth, look in starts:
        target = inner.get((width, depth, look, 1), ends[width])
        _block(lattice, node, target, stage, Layer("block1", stage.block, cin, width, stage.stride, size), look)
    out = halved(size, stage.stride)
    for cin, width in product(reached, stage.width):
        _must_differ(stage, Layer("block1", stage.block, cin, width, stage.stride, size))
        if max(stage.depth) > 1:
            _must_differ(stage, Layer("block2", stage.block, width, width, 1, out))
    for (width, depth, look, done), node in inner.items():
        target = inner.get((width, depth, look, done + 1), ends[width])
        _block(lattice, node, target, stage, Layer(f"block{done + 1}", stage.block, width, width, 1, out), look)
    return ends


def _must_differ(stage: StageSpec, bare: Layer) -> None:
    """Two values of a number that round to the same network would be one architecture under two ids.

    Options of a user's own are theirs: networks of one cost may differ, as by a dilation.
    """
    block = stage_block(stage.block)
    names = block.decisions
    seen: dict[Any, Value] = {}
    for setting in product(*(stage.values(name) for name in names)):
        layer = replace(bare, options=tuple(zip(names, setting, strict=True)))
        cost = block.cost(layer)
        for i, (name, value) in enumerate(zip(names, setting, strict=True)):
            if isinstance(value, str) or name in stage.options:
                continue
            twin = seen.setdefault((name, setting[:i], setting[i + 1 :], cost), value)
            if twin != value:
                raise SpaceError(
                    f"{stage.name}.{name}: {twin:g} and {value:g} are the same network after rounding, from {bare.cin} "
                    f"to {bare.cout} channels; remove one."
                )


def _block(lattice: Lattice, node: int, target: int, stage: StageSpec, bare: Layer, look: tuple[Any, ...]) -> None:
    """One edge for every setting of one block."""
    block = stage_block(stage.block)
    position = f"{stage.name}.{bare.position}"
    for setting in product(*(stage.values(name) for name in block.each)):
        options = tuple(zip(block.decisions, look + setting, strict=True))
        taken: Choices = ()
        for name, value in zip(block.each, setting, strict=True):
            taken += _choices(f"{position}.{name}", value, stage.values(name))
        layer = Layer(position, bare.kind, bare.cin, bare.cout, bare.stride, bare.size, options, stage.separate)
        _join(lattice, node, target, layer, taken)
