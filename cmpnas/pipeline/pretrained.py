"""Finished weights that a recipe's supernet starts from."""

from __future__ import annotations

from cmpnas.data.load import data_file
from cmpnas.errors import DataError
from cmpnas.models.folded import Folded, folded_convolutions
from cmpnas.models.pretrained import require_fit
from cmpnas.recipe import Recipe


def read_pretrained(recipe: Recipe, data: str | None) -> list[Folded] | None:
    """The convolutions that ``query.pretrained`` names, None where it names none; ``data`` is the data folder.

    Raises:
        DataError: the file is missing, damaged, or of another network than the largest of the query space.
    """
    settings = recipe.query.pretrained
    if settings is None:
        return None
    path = data_file(recipe.data, data, settings.file)
    try:
        weights = folded_convolutions(path, settings.mean, settings.std)
        require_fit(recipe.space(), weights)
    except DataError as fault:
        raise DataError(f"query.pretrained: {fault}") from None
    return weights
