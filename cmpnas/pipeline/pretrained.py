"""Finished weights that a recipe's supernet starts from, or one of its networks alone."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from cmpnas.data import Items
from cmpnas.data.load import data_file
from cmpnas.distributed import begin_equal
from cmpnas.errors import DataError, RecipeError
from cmpnas.models.folded import Folded, folded_convolutions
from cmpnas.models.network import Network
from cmpnas.models.pretrained import require_fit
from cmpnas.models.supernet import Supernet
from cmpnas.recipe import Recipe
from cmpnas.space import Arch, SearchSpace
from cmpnas.train.device import device
from cmpnas.train.supernet import start_on


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


def must_be_pretrained(recipe: Recipe) -> None:
    """Refuse a recipe without finished weights.

    Raises:
        RecipeError: it has no ``query.pretrained``.
    """
    if recipe.query.pretrained is None:
        raise RecipeError(
            f"--start pretrained needs finished weights, and recipe {recipe.name!r} has no query.pretrained; give "
            "supernet or scratch."
        )


@torch.no_grad()
def carve_pretrained(
    recipe: Recipe, data: str | None, space: SearchSpace, arch: Arch, learned: Items, seed: int
) -> Network:
    """``arch`` with the finished weights of a recipe that has some (`must_be_pretrained`), cut to its size, and a fresh
    embedding layer: it knows no gallery.

    Raises:
        DataError: as `read_pretrained`.
    """
    weights = cast(list[Folded], read_pretrained(recipe, data))
    torch.manual_seed(seed)
    supernet = Supernet(space).to(device())
    start_on(supernet, weights, learned)
    network = supernet.carve(arch)
    begin_equal(network)
    return network
