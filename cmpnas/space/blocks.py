"""What a stage may be made of: for each block its decisions, its cost in closed form, its module.

Modules are named by import path, so that a space can be read, counted and sampled without torch. A
user's own block is a `Block` anywhere, named in a space file by its import path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cmpnas.cost.value import Cost, conv, linear, resident
from cmpnas.errors import SpaceError, unknown
from cmpnas.resources import import_object
from cmpnas.space.arch import Value
from cmpnas.space.layer import Layer, round_to


def _fits_always(cin: int, cout: int, stride: int) -> str:
    return ""


@dataclass(frozen=True)
class Block:
    """One kind of layer.

    Attributes:
        cost: the exact cost of a layer of this kind.
        module: import path of a callable from `Layer` to `torch.nn.Module`.
        each: decisions that every block of a stage takes for itself.
        whole: decisions that a stage takes once, for all of its blocks.
        defaults: values of decisions that a space file may leave out; the others it must give.
        divisor: widths must be multiples of it.
        misfit: of ``cin``, ``cout`` and stride, says why no layer can be so, or nothing.
    """

    cost: Callable[[Layer], Cost]
    module: str
    each: tuple[str, ...] = ()
    whole: tuple[str, ...] = ("activation",)
    defaults: dict[str, Value] = field(default_factory=lambda: {"activation": "relu"})
    divisor: int = 8
    misfit: Callable[[int, int, int], str] = _fits_always

    @property
    def decisions(self) -> tuple[str, ...]:
        """All decisions, those of the stage first."""
        return self.whole + self.each


# Inverted bottleneck (MobileNetV2; squeeze-excite and hard swish as in MobileNetV3)


def expanded(layer: Layer) -> int:
    """Inner width of an inverted bottleneck: ``expansion * cin``, rounded to a multiple of 8."""
    return round_to(8, layer.cin * layer.number("expansion"))


def excited(layer: Layer, width: int) -> int:
    """Inner width of squeeze-excite on ``width`` channels (a multiple of 8), 0 for none."""
    ratio = layer.number("se")
    return round_to(8, width * ratio) if ratio else 0


def _excite_cost(width: int, inner: int, size: int) -> Cost:
    """Pool, two linear maps, and a multiplication that writes over the map."""
    maps = width * size**2
    fully = linear(width, inner) + linear(inner, width)
    return resident(maps, width) + fully.holding(maps)


def _mbconv_cost(layer: Layer) -> Cost:
    mid, out = expanded(layer), layer.out_size
    inner = excited(layer, mid)
    steps = [conv(mid, mid, layer.integer("kernel"), layer.size, layer.stride, groups=mid)]
    if mid != layer.cin:
        steps.insert(0, conv(layer.cin, mid, 1, layer.size))
    if inner:
        steps.append(_excite_cost(mid, inner, out))
    steps.append(conv(mid, layer.cout, 1, out))
    skip = layer.cin * layer.size**2 if layer.stride == 1 and layer.cin == layer.cout else 0
    return sum((step.holding(skip) for step in steps[1:]), steps[0])


# Residual blocks (ResNet; the stride is in the 3x3, as everybody trains them today)


def narrowed(layer: Layer) -> int:
    """Inner width of a residual block: ``expansion * cout``, rounded to a multiple of 8."""
    return round_to(8, layer.cout * layer.number("expansion"))


def _residual_cost(layer: Layer, steps: list[Cost]) -> Cost:
    """The steps of the branch while the input waits, then the shortcut while the branch waits."""
    before, after = layer.cin * layer.size**2, layer.cout * layer.out_size**2
    cost = sum((step.holding(before) for step in steps[1:]), steps[0])
    if layer.stride == 1 and layer.cin == layer.cout:
        return cost
    return cost + conv(layer.cin, layer.cout, 1, layer.size, layer.stride).holding(after)


def _basic_cost(layer: Layer) -> Cost:
    mid = narrowed(layer)
    first = conv(layer.cin, mid, 3, layer.size, layer.stride)
    return _residual_cost(layer, [first, conv(mid, layer.cout, 3, layer.out_size)])


def _bottleneck_cost(layer: Layer) -> Cost:
    mid = narrowed(layer)
    reduce = conv(layer.cin, mid, 1, layer.size)
    spatial = conv(mid, mid, 3, layer.size, layer.stride)
    return _residual_cost(layer, [reduce, spatial, conv(mid, layer.cout, 1, layer.out_size)])


# ShuffleNetV2 (section 4 and figure 3) with the operators of single path one-shot NAS

SHUFFLE_OPERATORS = ("shuffle3", "shuffle5", "shuffle7", "xception")


@dataclass(frozen=True)
class ShuffleShape:
    """Widths of a shuffle block: the untouched or projected branch ``aside``, the main branch's input
    ``begin``, inner ``mid`` and output ``end``; the depthwise ``kernel``; ``deep`` for Xception."""

    aside: int
    begin: int
    mid: int
    end: int
    kernel: int
    deep: bool


def shuffle_shape(layer: Layer) -> ShuffleShape:
    """The middle is ``expansion * cout / 2``, rounded to an even number."""
    operator = str(layer.option("operator"))
    deep = operator == "xception"
    kernel = 3 if deep else int(operator.removeprefix("shuffle"))
    mid = round_to(2, layer.cout / 2 * layer.number("expansion"))
    if layer.stride == 2:
        return ShuffleShape(layer.cin, layer.cin, mid, layer.cout - layer.cin, kernel, deep)
    half = layer.cin // 2
    return ShuffleShape(half, half, mid, layer.cout - half, kernel, deep)


def _shuffle_cost(layer: Layer) -> Cost:
    s, size, out = shuffle_shape(layer), layer.size, layer.out_size

    def depthwise(width: int, side: int, stride: int = 1) -> Cost:
        return conv(width, width, s.kernel, side, stride, groups=width)

    if s.deep:
        main = [depthwise(s.begin, size, layer.stride), conv(s.begin, s.mid, 1, out), depthwise(s.mid, out)]
        main += [conv(s.mid, s.mid, 1, out), depthwise(s.mid, out), conv(s.mid, s.end, 1, out)]
    else:
        main = [conv(s.begin, s.mid, 1, size), depthwise(s.mid, size, layer.stride), conv(s.mid, s.end, 1, out)]
    before, after = layer.cin * size**2, layer.cout * out**2
    if layer.stride == 2:
        # The projection runs first, then the main branch while the projection waits.
        aside = [depthwise(s.aside, size, 2), conv(s.aside, s.aside, 1, out)]
        cost = aside[0] + aside[1].holding(before)
        waiting = s.aside * out**2
        cost = sum((step.holding(waiting) for step in main), cost)
        return cost + resident(after, after)  # joined; then shuffled
    # The halves are views, so the whole input waits while its second half is worked on.
    cost = sum((step.holding(before) for step in main[1:]), main[0].holding(before - s.begin * size**2))
    return cost + resident(before, s.end * out**2, after) + resident(after, after)


def _shuffle_misfit(cin: int, cout: int, stride: int) -> str:
    if stride == 2 and cin >= cout:
        return f"a shuffle block of stride 2 must widen, not go from {cin} to {cout} channels"
    if stride == 1 and cin != cout:
        return f"a shuffle block of stride 1 keeps its width, it cannot go from {cin} to {cout} channels"
    return ""


# The frame around the stages


def _conv_cost(layer: Layer) -> Cost:
    return conv(layer.cin, layer.cout, layer.integer("kernel"), layer.size, layer.stride)


def _pool_cost(layer: Layer) -> Cost:
    return resident(layer.cin * layer.size**2, layer.cout * layer.out_size**2)


def _embed_cost(layer: Layer) -> Cost:
    return resident(layer.cin * layer.size**2, layer.cin) + linear(layer.cin, layer.cout)


def _resize_cost(layer: Layer) -> Cost:
    before, after = layer.integer("from"), layer.integer("to")
    return Cost() if before == after else resident(3 * before**2, 3 * after**2)


_MODULES = "cmpnas.models.blocks"
_RELU: dict[str, Value] = {"activation": "relu"}

BLOCKS = {
    "mbconv": Block(
        _mbconv_cost, f"{_MODULES}:MBConv",
        each=("kernel", "expansion"), whole=("se", "activation"), defaults=_RELU | {"se": 0},
    ),
    "basic": Block(_basic_cost, f"{_MODULES}:Basic", each=("expansion",), defaults=_RELU | {"expansion": 1}),
    "bottleneck": Block(
        _bottleneck_cost, f"{_MODULES}:Bottleneck", each=("expansion",), defaults=_RELU | {"expansion": 0.25}
    ),
    "shuffle": Block(
        _shuffle_cost, f"{_MODULES}:Shuffle",
        each=("operator", "expansion"), divisor=2, misfit=_shuffle_misfit,
    ),
}  # fmt: skip
_FRAME = {
    "conv": Block(_conv_cost, f"{_MODULES}:ConvBlock"),
    "pool": Block(_pool_cost, f"{_MODULES}:Pool"),
    "embed": Block(_embed_cost, f"{_MODULES}:Embed"),
    "resize": Block(_resize_cost, f"{_MODULES}:Resize"),
}


def stage_block(name: str) -> Block:
    """The block that a stage calls ``name``: one of `BLOCKS`, or ``package.module:NAME``.

    Raises:
        SpaceError: there is none.
    """
    if name in BLOCKS:
        return BLOCKS[name]
    if ":" not in name:
        raise SpaceError(unknown("block", name, BLOCKS, "Or an import path, package.module:NAME.").removesuffix("."))
    found: Any = import_object(name, SpaceError)
    if not isinstance(found, Block):
        raise SpaceError(f"{name} is a {type(found).__name__}, not a cmpnas.space.Block.")
    return found


def block_of(layer: Layer) -> Block:
    """The block of ``layer``, of a stage or of the frame."""
    return _FRAME[layer.kind] if layer.kind in _FRAME else stage_block(layer.kind)
