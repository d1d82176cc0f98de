"""What an architecture costs, and what one multiply-add layer costs, in closed form.

The count is fvcore's and the NAS literature's: multiply-adds of convolutions, linear maps and
attention products in eval mode, BatchNorm folded away. MobileNetV2 at 224 px is 300 MFLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """An exact cost: ``macs`` multiply-adds of one image, ``params`` trainable scalars."""

    macs: int = 0
    params: int = 0

    @property
    def mflops(self) -> float:
        """Million multiply-adds; ``mflops * 1e6`` is a whole number."""
        return self.macs / 1e6

    @property
    def params_m(self) -> float:
        """Million parameters."""
        return self.params / 1e6

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.params + other.params)


def conv(cin: int, cout: int, kernel: int, out_size: int, groups: int = 1) -> Cost:
    """A square convolution without bias that writes an ``out_size`` x ``out_size`` map."""
    weights = cout * (cin // groups) * kernel * kernel
    return Cost(weights * out_size * out_size, weights)


def norm(channels: int) -> Cost:
    """BatchNorm: two parameters a channel, no multiply-adds once folded."""
    return Cost(0, 2 * channels)


def linear(cin: int, cout: int, bias: bool = True) -> Cost:
    """A linear map on one vector."""
    return Cost(cin * cout, cin * cout + (cout if bias else 0))
