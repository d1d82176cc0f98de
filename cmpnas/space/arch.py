"""One point of a search space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Value = int | float | str


@dataclass(frozen=True, slots=True)
class Arch:
    """An architecture: the decisions of a space, each with its value, in the space's own order.

    Only decisions that matter are held (no kernel for a block that the depth leaves out), so equal
    networks are equal objects. Made by `SearchSpace.arch`, which validates.
    """

    space: str
    choices: tuple[tuple[str, Value], ...]

    @property
    def id(self) -> str:
        """Canonical text, safe as a file name: ``w16d2.k3e4.k5e2-w24d1.k3e4``.

        A stage or block starts with its group; each decision is its initial and its value.
        """
        groups: list[tuple[str, str]] = []
        for decision, value in self.choices:
            position, _, name = decision.rpartition(".")
            token = f"{name[:1]}{value:g}" if isinstance(value, int | float) else f"{name[:1]}{value}"
            if groups and groups[-1][0] == position:
                groups[-1] = (position, groups[-1][1] + token)
            else:
                groups.append((position, token))
        text = ""
        for position, tokens in groups:
            joint = "" if not text else "." if "." in position else "-"
            text += joint + tokens
        return text or "fixed"

    def to_json(self) -> dict[str, Any]:
        """``{"space": name, "choices": {decision: value}}``."""
        return {"space": self.space, "choices": dict(self.choices)}

    def __str__(self) -> str:
        return self.id
