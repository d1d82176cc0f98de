"""A limit on cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cmpnas.cost.value import Cost
from cmpnas.errors import BudgetError


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``mflops`` million multiply-adds and ``params_m`` million parameters (None: no limit).

    Raises:
        BudgetError: a limit is not a positive finite number.
    """

    mflops: float | None = None
    params_m: float | None = None

    def __post_init__(self) -> None:
        for name, unit in (("mflops", "MFLOPs"), ("params_m", "million parameters")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                flag = "--budget-" + name.replace("_", "-")
                raise BudgetError(
                    f"a budget of {value:g} {unit} is not a positive number; give {flag} a number above 0."
                )

    @property
    def max_macs(self) -> int | None:
        return None if self.mflops is None else _whole(self.mflops)

    @property
    def max_params(self) -> int | None:
        return None if self.params_m is None else _whole(self.params_m)

    def allows(self, cost: Cost) -> bool:
        """Whether ``cost`` is within every limit."""
        return (self.max_macs is None or cost.macs <= self.max_macs) and (
            self.max_params is None or cost.params <= self.max_params
        )

    def allows_all(self, macs: np.ndarray, params: np.ndarray) -> np.ndarray:
        """`allows` of many costs at once: bool ``(N,)``."""
        within = np.ones(len(macs), bool)
        if self.max_macs is not None:
            within &= macs <= self.max_macs
        if self.max_params is not None:
            within &= params <= self.max_params
        return within

    def to_json(self) -> dict[str, float]:
        """The limits that are set, by name."""
        named = {"mflops": self.mflops, "params_m": self.params_m}
        return {name: value for name, value in named.items() if value is not None}

    def __str__(self) -> str:
        parts = []
        if self.mflops is not None:
            parts.append(f"{_exact(self.mflops)} MFLOPs")
        if self.params_m is not None:
            parts.append(f"{_exact(self.params_m)} M parameters")
        return " and ".join(parts) or "no limit"


def _whole(millions: float) -> int:
    """A limit in units; a cost's own value in millions is within itself, whatever the floats lost."""
    return math.floor(millions * 1e6 * (1 + 1e-12) + 1e-6)


def _exact(millions: float) -> str:
    """To the last unit, so that a limit copied from a message is met by what the message spoke of."""
    return f"{millions:.6f}".rstrip("0").rstrip(".")
