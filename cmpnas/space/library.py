"""Finding spaces by name or path."""

from __future__ import annotations

from pathlib import Path

from cmpnas.errors import SpaceError, unknown
from cmpnas.resources import find, names
from cmpnas.space.space import SearchSpace
from cmpnas.space.spec import read_spec


def list_spaces() -> list[str]:
    """Names of the spaces that come with the package."""
    return names("search_spaces")


def load_space(name: str, *, size: int | None = None, embedding_dim: int | None = None) -> SearchSpace:
    """Load a space by name, or from a YAML file of the user's.

    Args:
        size: side of the input in pixels; by default the file's.
        embedding_dim: width of the embedding; by default the file's.

    Raises:
        SpaceError: there is no such space, or its file is not well formed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else find("search_spaces", name)
    if path is None:
        raise SpaceError(unknown("space", name, list_spaces(), "Try: cmpnas ls spaces, or give a .yaml file."))
    return SearchSpace(read_spec(path)).resized(size, embedding_dim)
