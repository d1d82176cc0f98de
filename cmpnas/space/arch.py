"""One point of a search space."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

Value = int | float | str
#: Decisions taken, each with its value.
Choices = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Arch:
    """An architecture: the decisions of a space, each with its value, in the space's own order.

    Only decisions that matter are held (none for a block that the depth leaves out), so equal
    networks are equal objects. Made by `SearchSpace.arch`, which validates.
    """

    space: str
    choices: Choices

    @property
    def id(self) -> str:
        """Canonical text, safe as a file name: ``w16d2.k3e4.k5e2-w24d1.k3e4``.

        Each decision is its initial and its value, of which words keep two letters (``relu6``: ``re6``).
        """
        groups: list[tuple[str, str]] = []
        for decision, value in self.choices:
            position, _, name = decision.rpartition(".")
            token = name[:1] + short(value)
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


def spelled_out(choices: Mapping[str, Value], decisions: Collection[str]) -> dict[str, Value]:
    """With each decision that stands for those of a stage's blocks replaced by them; own ones of a block win."""
    full: dict[str, Value] = {}
    for given, value in choices.items():
        if given not in decisions:
            stage, _, decision = given.rpartition(".")
            meant = [d for d in decisions if d.startswith(f"{stage}.") and d.endswith(f".{decision}")]
            full |= dict.fromkeys(meant or [given], value)
    return full | {given: value for given, value in choices.items() if given in decisions}


def short(value: Value) -> str:
    """A value as an id shows it."""
    if isinstance(value, int | float):
        return f"{value:g}"
    return re.sub(r"([^\W\d]{2})[^\W\d]*", r"\1", value)
