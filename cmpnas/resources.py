"""The YAML files that come with the package (beside it in a checkout, inside it in a wheel), and objects
that users name by import path."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from cmpnas.errors import CmpnasError

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


def import_object(path: str, error: type[CmpnasError]) -> Any:
    """What ``package.module:NAME`` names; the working folder is looked in, too.

    Raises:
        error: there is no such module, it fails to import, or it has no such name.
    """
    module, _, name = path.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        found = import_module(module)
    except Exception as fault:  # whatever a user's module does when it is run
        reason = f"{type(fault).__name__}: {fault}"
        raise error(f"cannot import {module!r} of {path!r} ({reason}); is it installed, or in this folder?") from None
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    if not hasattr(found, name):
        raise error(f"module {module!r} has no {name!r} (asked for as {path!r}).")
    return getattr(found, name)
