"""Layers: the unit that costs are counted in, weights are shared by and modules are built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cmpnas.cost.value import Cost, conv, linear, norm
from cmpnas.space.arch import Value


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of one architecture, complete: a module and a cost follow from it alone.

    ``position`` names the place in the network (``stage2.block1``), ``kind`` the block, ``size`` the
    side of the incoming square map, ``options`` the block's own settings in a fixed order.
    """

    position: str
    kind: str
    cin: int
    cout: int
    stride: int
    size: int
    options: tuple[tuple[str, Value], ...] = ()

    def option(self, name: str) -> Value:
        """The setting called ``name``."""
        return dict(self.options)[name]

    def integer(self, name: str) -> int:
        """The setting called ``name``, a whole number by the space's validation."""
        return int(self.option(name))

    @property
    def out_size(self) -> int:
        """Side of the map that this layer writes (odd kernels, half-kernel padding)."""
        return -(-self.size // self.stride)


def expanded(layer: Layer) -> int:
    """Inner width of an inverted bottleneck: ``expansion * cin``, rounded to a multiple of 8."""
    return round_to(8, layer.cin * float(layer.option("expansion")))


def squeezed(layer: Layer) -> int:
    """Inner width of a residual bottleneck: ``cout / 4``, rounded to a multiple of 8."""
    return round_to(8, layer.cout / 4)


def round_to(divisor: int, value: float) -> int:
    """The multiple of ``divisor`` nearest to ``value``, at least ``divisor``."""
    return max(divisor, int(value + divisor / 2) // divisor * divisor)


def _conv_cost(layer: Layer) -> Cost:
    return conv(layer.cin, layer.cout, layer.integer("kernel"), layer.out_size) + norm(layer.cout)


def _mbconv_cost(layer: Layer) -> Cost:
    mid, kernel = expanded(layer), layer.integer("kernel")
    cost = Cost()
    if mid != layer.cin:
        cost += conv(layer.cin, mid, 1, layer.size) + norm(mid)
    cost += conv(mid, mid, kernel, layer.out_size, groups=mid) + norm(mid)
    return cost + conv(mid, layer.cout, 1, layer.out_size) + norm(layer.cout)


def _shortcut_cost(layer: Layer) -> Cost:
    if layer.stride == 1 and layer.cin == layer.cout:
        return Cost()
    return conv(layer.cin, layer.cout, 1, layer.out_size) + norm(layer.cout)


def _basic_cost(layer: Layer) -> Cost:
    first = conv(layer.cin, layer.cout, 3, layer.out_size) + norm(layer.cout)
    second = conv(layer.cout, layer.cout, 3, layer.out_size) + norm(layer.cout)
    return first + second + _shortcut_cost(layer)


def _bottleneck_cost(layer: Layer) -> Cost:
    mid = squeezed(layer)
    reduce = conv(layer.cin, mid, 1, layer.size) + norm(mid)
    spatial = conv(mid, mid, 3, layer.out_size) + norm(mid)
    restore = conv(mid, layer.cout, 1, layer.out_size) + norm(layer.cout)
    return reduce + spatial + restore + _shortcut_cost(layer)


def _embed_cost(layer: Layer) -> Cost:
    return linear(layer.cin, layer.cout)


@dataclass(frozen=True, slots=True)
class Block:
    """What a space file may say of a block: its elastic ``choices`` and its closed-form ``cost``."""

    choices: tuple[str, ...]
    cost: Callable[[Layer], Cost]


#: Blocks that a stage may be made of. `cmpnas.models.blocks` holds the module of each kind.
BLOCKS = {
    "mbconv": Block(("kernel", "expansion"), _mbconv_cost),
    "basic": Block((), _basic_cost),
    "bottleneck": Block((), _bottleneck_cost),
}
_COSTS = {name: block.cost for name, block in BLOCKS.items()} | {"conv": _conv_cost, "embed": _embed_cost}


def layer_cost(layer: Layer) -> Cost:
    """Closed-form cost of ``layer``.

    Raises:
        KeyError: the kind has no formula; a cost of something unknown is never 0.
    """
    return _COSTS[layer.kind](layer)
