"""Many architectures of one supernet as one module: what their networks begin with alike is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cmpnas.models.supernet import Supernet
from cmpnas.space.arch import Arch
from cmpnas.space.layer import Layer


@dataclass
class _Node:
    """What follows a common beginning: by layer, and the architectures that end here."""

    number: int
    layer: Layer | None = None
    next: dict[Layer, _Node] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)


class Together(nn.Module):
    """The carved networks of ``archs`` as a tree whose every node is one layer after one beginning.

    What a layer computes and the BatchNorm statistics that `cmpnas.models.calibrate` gives it depend on the layers
    before it alone, so each output is, to the last bit, what the network carved alone would give. Weights of equal
    layers are held once. Beside the activations that one network needs, those of the open branches are held.

    BatchNorm statistics are unset: calibrate before use.
    """

    def __init__(self, supernet: Supernet, archs: Sequence[Arch]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self._count, self._root = len(archs), _Node(-1)
        self._overwrites: dict[Layer, bool] = {}
        weights: dict[Layer, dict[str, Tensor]] = {}
        for number, arch in enumerate(archs):
            node = self._root
            for layer in supernet.space.layers(arch):
                if layer not in node.next:
                    if layer not in weights:
                        weights[layer] = supernet.copied(layer)
                    node.next[layer] = _Node(len(self.blocks), layer)
                    self.blocks.append(supernet.block(layer, weights[layer]))
                node = node.next[layer]
            node.ends.append(number)

    def forward(self, images: Tensor) -> Tensor:
        """Embed ``(N, 3, H, W)`` by every architecture, or those that are left: ``(A, N, D)``."""
        found: list[Tensor | None] = [None] * self._count
        open_branches = [(self._root, images.contiguous(memory_format=torch.channels_last))]
        while open_branches:
            node, x = open_branches.pop()
            if node.layer is not None:
                x = self._run(node.number, node.layer, x)
            for number in node.ends:
                found[number] = x
            open_branches += [(child, x) for child in reversed(node.next.values())]
        return torch.stack([output for output in found if output is not None])

    def only(self, numbers: Sequence[int]) -> None:
        """Leave all but these architectures out from now on; what is left stays as it is."""

        def stays(node: _Node) -> bool:
            node.ends = [number for number in node.ends if number in numbers]
            node.next = {layer: child for layer, child in node.next.items() if stays(child)}
            return bool(node.ends or node.next)

        stays(self._root)

    def _run(self, number: int, layer: Layer, x: Tensor) -> Tensor:
        """One layer; one that writes over its input, as a user's own may, is given a copy, as others need it too."""
        overwrites = self._overwrites.get(layer.form)
        if overwrites is False:
            return self.blocks[number](x)
        copy = x.clone()
        y: Tensor = self.blocks[number](copy)
        if overwrites is None and not copy.is_inference():
            self._overwrites[layer.form] = copy._version > 0
        return y


def by_beginning(supernet: Supernet, archs: Sequence[Arch]) -> list[int]:
    """An order of ``archs`` in which those of a common beginning are neighbours."""
    numbers: dict[Layer, int] = {}
    paths = [[numbers.setdefault(layer, len(numbers)) for layer in supernet.space.layers(arch)] for arch in archs]
    return sorted(range(len(archs)), key=paths.__getitem__)
