"""The module of each layer kind: plain, static, and all that a carved network is made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.errors import SpaceError
from cmpnas.resources import import_object
from cmpnas.space.blocks import block_of, excited, expanded, narrowed, shuffle_shape
from cmpnas.space.layer import Layer

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
}


def conv_norm(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the side (but for its stride) and its BatchNorm."""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(cout)]


def activation(layer: Layer) -> nn.Module:
    """The activation that ``layer`` names."""
    return _ACTIVATIONS[str(layer.option("activation"))]()


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm, activation."""

    def __init__(self, layer: Layer) -> None:
        convolution = conv_norm(layer.cin, layer.cout, layer.integer("kernel"), layer.stride)
        super().__init__(*convolution, activation(layer))


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole map says (SENet; the hard sigmoid of MobileNetV3)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, inner)
        self.excite = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * weight[:, :, None, None]


class MBConv(nn.Module):
    """Inverted bottleneck: expand 1x1, depthwise k x k, project 1x1; a skip where shapes allow it.

    With expansion 1 there is nothing to expand and the first convolution is left out
    (MobileNetV2, table 1). Squeeze-excite stands before the projection (MobileNetV3, figure 4).
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        mid, kernel = expanded(layer), layer.integer("kernel")
        self.expand = nn.Sequential()
        if mid != layer.cin:
            self.expand = nn.Sequential(*conv_norm(layer.cin, mid), activation(layer))
        self.depthwise = nn.Sequential(*conv_norm(mid, mid, kernel, layer.stride, mid), activation(layer))
        inner = excited(layer, mid)
        self.excite = SqueezeExcite(mid, inner) if inner else nn.Sequential()
        self.project = nn.Sequential(*conv_norm(mid, layer.cout))
        self.skips = layer.stride == 1 and layer.cin == layer.cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.skips else y


class _Residual(nn.Module):
    """``activation(residual(x) + shortcut(x))``; the shortcut is a 1x1 where shapes differ."""

    def __init__(self, layer: Layer, residual: nn.Sequential) -> None:
        super().__init__()
        self.residual = residual
        same = layer.stride == 1 and layer.cin == layer.cout
        parts = [] if same else conv_norm(layer.cin, layer.cout, 1, layer.stride)
        self.shortcut = nn.Sequential(*parts)
        self.activation = activation(layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.residual(x) + self.shortcut(x))


class Basic(_Residual):
    """Residual block of two 3x3 convolutions (ResNet-18's)."""

    def __init__(self, layer: Layer) -> None:
        mid = narrowed(layer)
        first = conv_norm(layer.cin, mid, 3, layer.stride)
        super().__init__(layer, nn.Sequential(*first, activation(layer), *conv_norm(mid, layer.cout, 3)))


class Bottleneck(_Residual):
    """Residual block of 1x1, 3x3, 1x1 (ResNet-50's, the stride in the 3x3)."""

    def __init__(self, layer: Layer) -> None:
        mid = narrowed(layer)
        reduce = [*conv_norm(layer.cin, mid), activation(layer)]
        spatial = [*conv_norm(mid, mid, 3, layer.stride), activation(layer)]
        super().__init__(layer, nn.Sequential(*reduce, *spatial, *conv_norm(mid, layer.cout)))


class Shuffle(nn.Module):
    """ShuffleNetV2's unit (figure 3 c and d) with a depthwise kernel of 3, 5 or 7, or three of them (Xception)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        s, stride = shuffle_shape(layer), layer.stride
        self.aside = nn.Sequential()
        if stride == 2:
            spatial = conv_norm(s.aside, s.aside, s.kernel, 2, s.aside)
            self.aside = nn.Sequential(*spatial, *conv_norm(s.aside, s.aside), activation(layer))
        self.main, self.deep = nn.Sequential(), nn.Sequential()  # names apart, so that they never share weights
        if s.deep:
            main = [*conv_norm(s.begin, s.begin, 3, stride, s.begin), *conv_norm(s.begin, s.mid), activation(layer)]
            for width in (s.mid, s.end):
                main += [*conv_norm(s.mid, s.mid, 3, 1, s.mid), *conv_norm(s.mid, width), activation(layer)]
            self.deep = nn.Sequential(*main)
        else:
            main = [*conv_norm(s.begin, s.mid), activation(layer)]
            main += conv_norm(s.mid, s.mid, s.kernel, stride, s.mid)
            main += [*conv_norm(s.mid, s.end), activation(layer)]
            self.main = nn.Sequential(*main)
        self.splits = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        aside, begin = x.chunk(2, 1) if self.splits else (x, x)
        return F.channel_shuffle(torch.cat([self.aside(aside), self.deep(self.main(begin))], 1), 2)


class Pool(nn.MaxPool2d):
    """The 3x3 max-pooling of stride 2 after a stem."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(3, 2, 1)


class Resize(nn.Module):
    """Pictures brought to the working resolution; no work where they arrive at it."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.side = layer.integer("to")
        self.idle = self.side == layer.integer("from")

    def forward(self, x: Tensor) -> Tensor:
        if self.idle:
            return x
        return F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False)


class Embed(nn.Module):
    """Global average pooling and a linear map to the embedding."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.cin, layer.cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


def build_layer(layer: Layer) -> nn.Module:
    """The static module of ``layer``: ``(N, cin, size, size)`` to ``(N, cout, out, out)``, or to
    ``(N, cout)`` for the embedding."""
    module: nn.Module = import_object(block_of(layer).module, SpaceError)(layer)
    return module
