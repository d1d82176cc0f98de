"""``cmpnas ls``: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from cmpnas.cli.options import Json, print_json
from cmpnas.errors import CmpnasError, unknown

EPILOG = "Example: cmpnas ls recipes"

_KINDS = ("recipes", "spaces", "losses", "metrics", "controllers")


def command(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(_KINDS))],
    as_json: Json = False,
) -> None:
    """List recipes, spaces, losses, metrics or controllers by name."""
    if kind not in _KINDS:
        raise CmpnasError(unknown("kind", kind, _KINDS, "Try: cmpnas ls recipes"))
    entries = _entries(kind)
    if as_json:
        print_json(entries)
        return
    width = max(map(len, entries), default=0)
    for name, about in entries.items():
        print(f"{name:<{width}}  {about}".rstrip())


def _entries(kind: str) -> dict[str, str]:
    """Name to a line about it."""
    if kind == "metrics":
        from cmpnas.retrieval.metrics import DEFINITIONS

        return DEFINITIONS
    if kind in ("losses", "controllers"):
        from cmpnas.compat import LOSSES
        from cmpnas.search.controllers import CONTROLLERS

        registry = LOSSES if kind == "losses" else CONTROLLERS
        return {name: (entry.__doc__ or "").splitlines()[0] for name, entry in registry.items()}
    from cmpnas.resources import find, names

    folder = "recipes" if kind == "recipes" else "search_spaces"
    about = {}
    for name in names(folder):
        path = find(folder, name)
        first = path.read_text(encoding="utf-8").splitlines()[0] if path else ""
        about[name] = first.removeprefix("#").strip()
    return about
