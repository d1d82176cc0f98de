"""What an architecture is made of: its layers in words, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass

from cmpnas.space import Arch, SearchSpace
from cmpnas.space.blocks import block_of
from cmpnas.space.layer import Layer


@dataclass(frozen=True)
class Part:
    """One layer.

    Attributes:
        position: ``stage2.block1``.
        what: the block and its settings, ``mbconv 5x5, expansion 4``.
        kernel: side of its largest kernel in pixels, 0 where it has none.
        cin, cout: channels in and out.
        size, out_size: sides of the maps read and written, in pixels.
        macs, params: its exact cost for one image.
    """

    position: str
    what: str
    kernel: int
    cin: int
    cout: int
    size: int
    out_size: int
    macs: int
    params: int

    @property
    def shape(self) -> str:
        """What goes in and comes out, in words."""
        if self.position == "embed":
            return f"{self.cin} channels to a vector of {self.cout}"
        return f"{self.cin} to {self.cout} channels, {self.size} to {self.out_size} px"


def anatomy(space: SearchSpace, arch: Arch) -> list[Part]:
    """The layers of ``arch`` from stem to embedding; their costs add up to that of ``arch``.

    Raises:
        SpaceError: ``arch`` is of another space.
    """
    return [_part(layer) for layer in space.layers(arch)]


def _part(layer: Layer) -> Part:
    cost, options = block_of(layer).cost(layer), dict(layer.options)
    kernel = options.pop("kernel", 0)
    kind = "pool, linear" if layer.kind == "embed" else layer.kind
    words = [kind + (f" {kernel}x{kernel}" if kernel else "")]
    words += [f"{name} {value:g}" if not isinstance(value, str) else value for name, value in options.items() if value]
    return Part(
        layer.position, ", ".join(words), kernel if isinstance(kernel, int) else 0,
        layer.cin, layer.cout, layer.size, layer.out_size, cost.macs, cost.params,
    )  # fmt: skip
