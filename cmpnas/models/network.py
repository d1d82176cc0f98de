"""A plain static network for one architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cmpnas.models.blocks import build_layer
from cmpnas.space.arch import Arch
from cmpnas.space.layer import Layer
from cmpnas.space.space import SearchSpace


class Network(nn.Sequential):
    """Layers in order, whatever they read: ends in ``(N, D)`` float, not normalised."""

    def __init__(self, layers: Sequence[Layer], build: Callable[[Layer], nn.Module] = build_layer) -> None:
        super().__init__()
        for layer in layers:
            self.add_module(module_name(layer.position), build(layer))


class PictureNetwork(Network):
    """A network of pictures, ``(N, 3, H, W)`` float in [-1, 1], which it takes to channels-last memory."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.contiguous(memory_format=torch.channels_last))


def network_of(space: SearchSpace) -> type[Network]:
    """The kind of network that the architectures of ``space`` are."""
    return PictureNetwork if space.unit == "px" else Network


def module_name(position: str) -> str:
    """A layer's position as the name of a submodule."""
    return position.replace(".", "_")


def build_network(space: SearchSpace, arch: Arch) -> Network:
    """A freshly initialised network of ``arch``, in channels-last memory."""
    network = network_of(space)(space.layers(arch))
    initialise(dict(network.named_parameters()))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def initialise(parameters: dict[str, Tensor]) -> None:
    """Fill parameters by their kind: fan-out normal for convolutions, ones and zeros for norms."""
    for name, value in parameters.items():
        if value.ndim == 4:
            nn.init.kaiming_normal_(value, mode="fan_out", nonlinearity="relu")
        elif value.ndim == 2:
            nn.init.normal_(value, std=value.shape[1] ** -0.5)
        elif name.endswith("weight"):
            nn.init.ones_(value)
        else:
            nn.init.zeros_(value)
