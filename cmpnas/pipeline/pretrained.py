"""Finished weights that a recipe's supernet starts from."""

from __future__ import annotations

from pathlib import Path

from cmpnas.data.load import data_file
from cmpnas.errors import DataError
from cmpnas.models.folded import Folded, folded_convolutions
from cmpnas.models.pretrained import require_fit
from cmpnas.recipe import Recipe


def find_pretrained(recipe: Recipe, data: str | None) -> Path | None:
    """The file that ``query.pretrained`` names, None where it names none; ``data`` is the data folder.

    Raises:
        DataError: it does not exist.
    """
    settings = recipe.query.pretrained
    try:
        return None if settings is None else data_file(recipe.data, data, settings.file)
    except DataError as fault:
        raise DataError(f"query.pretrained: {fault}") from None


def read_pretrained(recipe: Recipe, data: str | None) -> list[Folded] | None:
    """The convolutions that ``query.pretrained`` names, None where it names none; ``data`` is the data folder.

    Raises:
        DataError: the file is missing, damaged, or of another network than the largest of the query space.
    """
    settings, path = recipe.query.pretrained, find_pretrained(recipe, data)
    if settings is None or path is None:
        return None
    try:
        weights = folded_convolutions(path, settings.mean, settings.std)
        require_fit(recipe.space(), weights)
    except DataError as fault:
        raise DataError(f"query.pretrained: {fault}") from None
    return weights
