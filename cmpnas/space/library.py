"""Finding spaces by name or path."""

from __future__ import annotations

from pathlib import Path

from cmpnas.errors import CmpnasError, SpaceError, unknown
from cmpnas.resources import find, import_object, names
from cmpnas.space.blueprint import Blueprint
from cmpnas.space.grow import Declared
from cmpnas.space.space import SearchSpace
from cmpnas.space.spec import read_spec


def list_spaces() -> list[str]:
    """Names of the spaces that come with the package."""
    return names("search_spaces")


def load_space(name: str, *, size: int | None = None, embedding_dim: int | None = None) -> SearchSpace:
    """Load a space by name, from a YAML file of the user's, or from ``package.module:Class``.

    A class is called without arguments and must give a `cmpnas.space.Blueprint`.

    Args:
        size: side of the input in pixels; by default the file's.
        embedding_dim: width of the embedding; by default the file's.

    Raises:
        SpaceError: there is no such space, or it is not well formed.
    """
    if ":" in name:
        try:
            blueprint: Blueprint = import_object(name, SpaceError)()
        except TypeError as fault:
            raise SpaceError(f"{name} cannot be called without arguments ({fault}); see docs/spaces.md.") from None
        if missing := [part for part in ("name", "size", "embedding_dim", "lattice") if not hasattr(blueprint, part)]:
            raise SpaceError(f"{name} is no blueprint of a space: it has no {missing[0]!r}; see docs/spaces.md.")
        return _whole(name, blueprint, size, embedding_dim)
    path = Path(name) if name.endswith((".yaml", ".yml")) else find("search_spaces", name)
    if path is None:
        hint = "Try: cmpnas ls spaces, or give a .yaml file, or package.module:Class."
        raise SpaceError(unknown("space", name, list_spaces(), hint))
    return _whole(name, Declared(read_spec(path)), size, embedding_dim)


def _whole(name: str, blueprint: Blueprint, size: int | None, embedding_dim: int | None) -> SearchSpace:
    """The space, which goes from end to end; a class or a block may be somebody else's code."""
    try:
        space = SearchSpace(blueprint, size, embedding_dim)
        space.extremes()
    except CmpnasError:
        raise
    except Exception as fault:
        raise SpaceError(
            f"{name} gives no lattice from end to end ({type(fault).__name__}: {fault}); see docs/spaces.md, and "
            "cmpnas.testing.check_space."
        ) from None
    return space
