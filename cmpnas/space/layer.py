"""Layers: the unit that costs are counted in, weights are shared by and modules are built from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cmpnas.cost.value import halved
from cmpnas.space.arch import Value


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of one architecture, complete: a module and a cost follow from it alone.

    Attributes:
        position: the place in the network, ``stage2.block1``.
        kind: the block, a name of `cmpnas.space.blocks` or the import path of the user's own.
        cin, cout: channels in and out.
        stride: 1 or 2.
        size: side of the incoming square map.
        options: the block's own settings in a fixed order.
        separate: options whose every value has weights of its own in a supernet; what differs in
            others only shares one tensor, by leading channels and the centre of kernels.
    """

    position: str
    kind: str
    cin: int
    cout: int
    stride: int
    size: int
    options: tuple[tuple[str, Value], ...] = ()
    separate: tuple[str, ...] = ()

    def option(self, name: str) -> Value:
        """The setting called ``name``."""
        return dict(self.options)[name]

    def integer(self, name: str) -> int:
        """The setting called ``name``, a whole number by the space's validation."""
        return int(self.option(name))

    def number(self, name: str) -> float:
        """The setting called ``name``, a number by the space's validation."""
        return float(self.option(name))

    @property
    def out_size(self) -> int:
        """Side of the map that this layer writes."""
        return halved(self.size, self.stride)

    @property
    def form(self) -> Layer:
        """All that the module of this layer depends on: the same at every position and on every map."""
        return replace(self, position="", size=0, separate=())

    @property
    def operator(self) -> str:
        """What a device is asked to do, wherever the layer stands: ``mbconv 24>32 s2 56px kernel=5 expansion=4``."""
        shown = (f"{name}={value if isinstance(value, str) else f'{value:g}'}" for name, value in self.options)
        return " ".join((f"{self.kind} {self.cin}>{self.cout} s{self.stride} {self.size}px", *shown))

    @property
    def shared_by(self) -> str:
        """Names the weights that this layer uses: layers of the same name share them."""
        own = "".join(f":{name}={self.option(name)}" for name in self.separate)
        return f"{self.position}:{self.kind}{own}"


def round_to(divisor: int, value: float) -> int:
    """The multiple of ``divisor`` nearest to ``value``, at least ``divisor``."""
    return max(divisor, int(value + divisor / 2) // divisor * divisor)
