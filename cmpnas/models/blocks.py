"""The module of each layer kind: plain, static, and all that a carved network is made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from cmpnas.space.layer import Layer, expanded, squeezed

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
}


def _conv_norm(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(cout)]


def _activation(layer: Layer) -> nn.Module:
    return _ACTIVATIONS[str(layer.option("activation"))]()


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm, activation."""

    def __init__(self, layer: Layer) -> None:
        kernel = layer.integer("kernel")
        super().__init__(*_conv_norm(layer.cin, layer.cout, kernel, layer.stride), _activation(layer))


class MBConv(nn.Module):
    """Inverted bottleneck: expand 1x1, depthwise k x k, project 1x1; a skip where shapes allow it.

    With expansion 1 there is nothing to expand and the first convolution is left out
    (MobileNetV2, table 1).
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        mid, kernel = expanded(layer), layer.integer("kernel")
        self.expand = nn.Sequential()
        if mid != layer.cin:
            self.expand = nn.Sequential(*_conv_norm(layer.cin, mid, 1), _activation(layer))
        depthwise = _conv_norm(mid, mid, kernel, layer.stride, groups=mid)
        self.depthwise = nn.Sequential(*depthwise, _activation(layer))
        self.project = nn.Sequential(*_conv_norm(mid, layer.cout, 1))
        self.skips = layer.stride == 1 and layer.cin == layer.cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skips else y


class _Residual(nn.Module):
    """``activation(residual(x) + shortcut(x))``; the shortcut is a 1x1 where shapes differ."""

    def __init__(self, layer: Layer, residual: nn.Sequential) -> None:
        super().__init__()
        self.residual = residual
        same = layer.stride == 1 and layer.cin == layer.cout
        parts = [] if same else _conv_norm(layer.cin, layer.cout, 1, layer.stride)
        self.shortcut = nn.Sequential(*parts)
        self.activation = _activation(layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residual(x) + self.shortcut(x))


class Basic(_Residual):
    """Residual block of two 3x3 convolutions (ResNet-18's)."""

    def __init__(self, layer: Layer) -> None:
        first = _conv_norm(layer.cin, layer.cout, 3, layer.stride)
        second = _conv_norm(layer.cout, layer.cout, 3)
        super().__init__(layer, nn.Sequential(*first, _activation(layer), *second))


class Bottleneck(_Residual):
    """Residual block of 1x1, 3x3, 1x1 with a quarter of the width inside (ResNet-50's)."""

    def __init__(self, layer: Layer) -> None:
        mid = squeezed(layer)
        reduce = [*_conv_norm(layer.cin, mid, 1), _activation(layer)]
        spatial = [*_conv_norm(mid, mid, 3, layer.stride), _activation(layer)]
        super().__init__(layer, nn.Sequential(*reduce, *spatial, *_conv_norm(mid, layer.cout, 1)))


class Embed(nn.Module):
    """Global average pooling and a linear map to the embedding."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.cin, layer.cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


_MODULES: dict[str, Callable[[Layer], nn.Module]] = {
    "conv": ConvBlock,
    "mbconv": MBConv,
    "basic": Basic,
    "bottleneck": Bottleneck,
    "embed": Embed,
}


def build_layer(layer: Layer) -> nn.Module:
    """The static module of ``layer``: ``(N, cin, size, size)`` to ``(N, cout, out, out)``, or to
    ``(N, cout)`` for the embedding."""
    return _MODULES[layer.kind](layer)
