"""``cmpnas ls``: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from cmpnas.cli.options import Json, print_json
from cmpnas.errors import CmpnasError, unknown

EPILOG = "Example: cmpnas ls recipes"

_KINDS = ("recipes", "spaces", "losses", "metrics", "controllers")


def command(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help=", ".join(_KINDS), show_default=False)] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Metrics: other names in use, and a worked example.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List recipes, spaces, losses, metrics or controllers by name."""
    if kind is None and not explain:
        print("\n".join(f"cmpnas ls {name}" for name in _KINDS))
        return
    if kind not in _KINDS:
        raise CmpnasError(unknown("kind", kind, _KINDS, "Try: cmpnas ls recipes"))
    if explain:
        _explain(kind, as_json)
        return
    entries = _entries(kind)
    if as_json:
        print_json(entries)
        return
    width = max(map(len, entries), default=0)
    for name, about in entries.items():
        print(f"{name:<{width}}  {about}".rstrip())


def _explain(kind: str, as_json: bool) -> None:
    from cmpnas.retrieval.metrics import explain

    if kind != "metrics":
        raise CmpnasError(f"--explain is for metrics; {kind!r} have no more to say. Try: cmpnas ls metrics --explain")
    entries = explain()
    if as_json:
        print_json(entries)
        return
    print("R relevant items at ranks r_1 < r_2 < ...; c_k of them rank k or better. Example: the ranking 1010010000")
    print("(1 is relevant) with R = 4, the fourth far behind; k = 10.\n")
    for name, entry in entries.items():
        print(f"{name:<12} = {entry['formula']}")
        if entry["also"]:
            print(f"{'':<15}also: {entry['also']}")
        print(f"{'':<15}example: {entry['example']:.4f}")


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
