"""The YAML files that come with the package: beside it in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def _folder(kind: str) -> Path:
    inside = _PACKAGE / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def names(kind: str) -> list[str]:
    """Names of the files of one kind (``recipes`` or ``search_spaces``), sorted."""
    return sorted(path.stem for path in _folder(kind).glob("*.yaml"))


def find(kind: str, name: str) -> Path | None:
    """The file called ``name``, or None."""
    return _folder(kind) / f"{name}.yaml" if name in names(kind) else None
