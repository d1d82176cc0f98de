"""What an architecture costs, and what one operator costs, in closed form.

The count is fvcore's and the NAS literature's: multiply-adds of convolutions, linear maps and
attention products in eval mode, BatchNorm folded away. MobileNetV2 at 224 px is 300 MFLOPs.

Memory is that of inference too: the most scalars alive at once while one image passes, when an
elementwise operator writes over its input, a view costs nothing and a map is freed after its last use.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Cost:
    """An exact cost: ``macs`` multiply-adds of one image, ``params`` trainable scalars, ``peak``
    activation scalars alive at once, ``ns`` nanoseconds by a latency table (None: nobody has measured).

    Adding two costs is running one after the other.
    """

    macs: int = 0
    params: int = 0
    peak: int = 0
    ns: int | None = field(default=None, repr=False)

    @property
    def mflops(self) -> float:
        """Million multiply-adds; ``round(mflops * 1e6)`` is exact."""
        return self.macs / 1e6

    @property
    def params_m(self) -> float:
        """Million parameters."""
        return self.params / 1e6

    @property
    def memory_mib(self) -> float:
        """Peak activation memory of one image in float32, in MiB."""
        return self.peak * 4 / 2**20

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds on the device of the latency table; None where there is none."""
        return None if self.ns is None else self.ns / 1e6

    def __add__(self, other: Cost) -> Cost:
        ns = None if self.ns is None or other.ns is None else self.ns + other.ns
        return Cost(self.macs + other.macs, self.params + other.params, max(self.peak, other.peak), ns)

    def holding(self, scalars: int) -> Cost:
        """The same work done while ``scalars`` others wait in memory."""
        return replace(self, peak=self.peak + scalars)


def halved(size: int, stride: int) -> int:
    """Side of the map that an operator of this stride writes (odd kernels, half-kernel padding)."""
    return -(-size // stride)


def conv(cin: int, cout: int, kernel: int, size: int, stride: int = 1, groups: int = 1) -> Cost:
    """A square convolution without bias that reads a ``size`` x ``size`` map, and its BatchNorm.

    The norm has two parameters a channel and, once folded, no multiply-adds.
    """
    weights = cout * (cin // groups) * kernel * kernel
    pixels = halved(size, stride) ** 2
    return Cost(weights * pixels, weights + 2 * cout, cin * size**2 + cout * pixels)


def linear(cin: int, cout: int) -> Cost:
    """A linear map with bias on one vector."""
    return Cost(cin * cout, cin * cout + cout, cin + cout)


def resident(*scalars: int) -> Cost:
    """An operator without multiply-adds, by the sizes of what it reads and writes."""
    return Cost(peak=sum(scalars))
