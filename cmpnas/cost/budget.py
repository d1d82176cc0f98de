"""A limit on cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cmpnas.cost.value import Cost
from cmpnas.errors import BudgetError

#: What a limit may be set on: fields of `Cost` that add up over layers.
Resource = Literal["macs", "params", "ns"]
#: What costs and the limits on them are counted in.
UNITS = {"mflops": "MFLOPs", "params_m": "million parameters", "latency_ms": "ms"}


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``mflops`` million multiply-adds, ``params_m`` million parameters, ``latency_ms`` milliseconds
    (None: no limit); at most two of the three.

    Raises:
        BudgetError: a limit is not a positive finite number, or there are three.
    """

    mflops: float | None = None
    params_m: float | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.to_json().items():
            if not (math.isfinite(value) and value > 0):
                flag = "--budget-" + name.replace("_", "-")
                raise BudgetError(
                    f"a budget of {value:g} {UNITS[name]} is not a positive number; give {flag} a number above 0."
                )
        if len(self.to_json()) > 2:
            raise BudgetError(f"a budget of {self} has three limits; at most two can be kept at once: leave one out.")

    @property
    def limits(self) -> dict[Resource, int]:
        """The limits that are set, each in the whole numbers of a `Cost`."""
        set_ones: dict[Resource, float | None] = {
            "macs": self.mflops, "params": self.params_m, "ns": self.latency_ms,
        }  # fmt: skip
        return {name: _whole(value) for name, value in set_ones.items() if value is not None}

    def allows(self, cost: Cost) -> bool:
        """Whether ``cost`` is within every limit.

        Raises:
            BudgetError: latency is limited, and nobody has measured it.
        """
        return all(amount(cost, name) <= limit for name, limit in self.limits.items())

    def lowers(self, mflops: float, latency_ms: float | None) -> float:
        """What a search within this budget lowers of such a cost: milliseconds where they are limited, else MFLOPs."""
        return mflops if self.latency_ms is None or latency_ms is None else latency_ms

    def to_json(self) -> dict[str, float]:
        """The limits that are set, by name."""
        named = {"mflops": self.mflops, "params_m": self.params_m, "latency_ms": self.latency_ms}
        return {name: value for name, value in named.items() if value is not None}

    def __str__(self) -> str:
        units = {"mflops": "MFLOPs", "params_m": "M parameters", "latency_ms": "ms"}
        return " and ".join(f"{_exact(value)} {units[name]}" for name, value in self.to_json().items()) or "no limit"


def amount(cost: Cost, name: Resource) -> int:
    """One resource of ``cost``.

    Raises:
        BudgetError: it is latency, and nobody has measured it.
    """
    value: int | None = getattr(cost, name)
    if value is None:
        raise BudgetError(
            "a budget in milliseconds needs a latency table of the space: make one with cmpnas measure, and name it "
            "by --latency-table."
        )
    return value


def _whole(millions: float) -> int:
    """A limit in units; a cost's own value in millions is within itself, whatever the floats lost."""
    return math.floor(millions * 1e6 * (1 + 1e-12) + 1e-6)


def _exact(millions: float) -> str:
    """To the last unit, so that a limit copied from a message is met by what the message spoke of."""
    return f"{millions:.6f}".rstrip("0").rstrip(".")
