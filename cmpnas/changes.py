"""How two recipes differ, key by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LONG = 80  # letters


def differences(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Keys at which two recipes differ, and what each has there; entries of a list that have names go by these."""
    there, here = _by_name(there), _by_name(here)
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield key, there, here


def _by_name(value: Any) -> Any:
    named = isinstance(value, list) and all(isinstance(entry, dict) and "name" in entry for entry in value)
    return {entry["name"]: entry for entry in value} if named else value


def told(value: Any) -> str:
    """A value of a recipe in a line, what is long by its beginning."""
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
