"""A supernet that starts from a finished network: its dearest path is that network, the others are inside it.

Published weights know the world that a few thousand training pictures do not show. Channels are sorted by how much they
vary where they are read, so that entangled slices, which are leading channels, keep the most important ones (as
Once-for-All sorts them before it shrinks, ICLR 2020, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile, zip_longest
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cmpnas.errors import DataError
from cmpnas.models.blocks import ConvBlock, Embed, MBConv, Resize
from cmpnas.models.folded import Folded
from cmpnas.models.network import Network, network_of
from cmpnas.models.supernet import Supernet
from cmpnas.space.space import SearchSpace


def require_fit(space: SearchSpace, weights: Sequence[Folded]) -> None:
    """Check that ``weights`` are those of the dearest network of ``space``.

    Raises:
        DataError: they are of another network, or the space has blocks whose channels nobody here can sort.
    """
    layers = space.layers(space.extremes()[1])
    with torch.device("meta"):
        network = network_of(space)(layers)
    for name, block in network.named_children():
        if not isinstance(block, ConvBlock | MBConv | Embed | Resize):
            raise DataError(
                f"{name} of space {space.name!r} is a {type(block).__name__}; only spaces of mbconv blocks can start "
                "from finished weights."
            )
    wanted = [tuple(conv.weight.shape) for conv, _ in _convolutions(network)]
    given = [tuple(kernel.shape) for kernel, _ in weights]
    if wanted != given:
        n, here, there = next((n, a, b) for n, (a, b) in enumerate(zip_longest(wanted, given), 1) if a != b)
        raise DataError(
            f"convolution {n} is {here or 'missing'} in the largest network of space {space.name!r} and "
            f"{there or 'missing'} in the file; bring the weights of that very network, or take a space that has the "
            "file's network as its largest."
        )
    for layer in layers:
        # Neither would start with the file's weights, and nobody would notice.
        if layer.separate or dict(layer.options).get("se"):
            what = f"separate: {', '.join(layer.separate)}" if layer.separate else "squeeze-excite"
            raise DataError(
                f"{layer.position} of space {space.name!r} has {what}, which cannot start from finished weights; "
                "take a space without it."
            )


@torch.no_grad()
def start_from(supernet: Supernet, weights: Sequence[Folded], images: Tensor) -> Network:
    """Give the dearest path of ``supernet`` the convolutions of a finished network, the most important channels first.

    A supernet normalises by what it sees, a folded network does not. So each BatchNorm gets the scale and shift with
    which it gives, on ``images``, what the folded convolution gave.

    Args:
        weights: of every convolution of the dearest path, in the order in which it computes them.
        images: float ``(N, 3, S, S)`` in [-1, 1] at the space's size, on the supernet's device; N about a hundred.

    Returns:
        That path in eval mode: on ``images`` it computes what the finished network does, up to the embedding.

    Raises:
        DataError: as `require_fit`.
    """
    space = supernet.space
    require_fit(space, weights)
    arch = space.extremes()[1]
    network = supernet.carve(arch).eval()
    for (conv, norm), (kernel, bias) in zip(_convolutions(network), weights, strict=True):
        conv.weight.copy_(kernel)
        _unfold(norm, bias)
    network(images)
    _sort(network)
    for layer, block in zip(space.layers(arch), network, strict=True):
        shared = supernet.slices(layer)
        for name, value in block.named_parameters():
            shared[name].copy_(value)
    return network


def _convolutions(network: nn.Module) -> Iterator[tuple[nn.Conv2d, _BatchNorm]]:
    """Every convolution with the BatchNorm behind it, in the order of computation."""
    found = [module for module in network.modules() if isinstance(module, nn.Conv2d | _BatchNorm)]
    for conv, norm in zip(found[::2], found[1::2], strict=True):
        yield cast(nn.Conv2d, conv), cast(_BatchNorm, norm)


def _unfold(norm: _BatchNorm, bias: Tensor) -> None:
    """Have ``norm``, when it sees its first batch, take the scale and shift with which it adds ``bias`` and no more."""

    def set_once(_: nn.Module, given: tuple[Tensor]) -> None:
        hook.remove()
        variance, mean = torch.var_mean(given[0], (0, 2, 3), correction=0)
        norm.running_mean, norm.running_var = mean, variance
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean + bias.to(mean))

    hook = norm.register_forward_pre_hook(set_once)


def _sort(network: Network) -> None:
    """Sort the channels of every block; what follows reads them in their new order."""
    blocks = [block for block in network if isinstance(block, ConvBlock | MBConv)]
    order = torch.arange(3)
    for n, block in enumerate(blocks):
        # What skips adds to the channels that it read, so a run of blocks has one order.
        after = order if _skips(block) else _by(_written(block, blocks[n + 1 :]))
        if isinstance(block, MBConv):
            hidden = order
            if len(block.expand):
                _read(block.expand, order)
                kernel = _conv_norm(block.project)[0].weight
                hidden = _by(_conv_norm(block.depthwise)[1].weight * kernel.flatten(1).norm(dim=0))
                _write(block.expand, hidden)
            _write(block.depthwise, hidden)
            _read(block.project, hidden)
        else:
            _read(block, order)
        _write(_last(block), after)
        order = after


def _last(block: ConvBlock | MBConv) -> nn.Sequential:
    """What gives the channels of ``block``."""
    return block.project if isinstance(block, MBConv) else block


def _skips(block: ConvBlock | MBConv) -> bool:
    return isinstance(block, MBConv) and block.skips


def _written(block: ConvBlock | MBConv, later: Sequence[ConvBlock | MBConv]) -> Tensor:
    """Variance that ``block``, and those of ``later`` that add to what it gives, write into each channel."""
    run = [block, *takewhile(_skips, later)]
    return torch.stack([_conv_norm(_last(one))[1].weight.square() for one in run]).sum(0)


def _by(worth: Tensor) -> Tensor:
    return worth.argsort(descending=True, stable=True)


def _conv_norm(layers: nn.Sequential) -> tuple[nn.Conv2d, _BatchNorm]:
    return cast(nn.Conv2d, layers[0]), cast(_BatchNorm, layers[1])


def _read(layers: nn.Sequential, order: Tensor) -> None:
    """The input channels of a convolution in another order."""
    conv, _ = _conv_norm(layers)
    conv.weight.copy_(conv.weight[:, order])


def _write(layers: nn.Sequential, order: Tensor) -> None:
    """The output channels of a convolution and its BatchNorm in another order."""
    conv, norm = _conv_norm(layers)
    for values in (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if values is not None:
            values.copy_(values[order])
