"""Weights of losses, as recipes have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from cmpnas.compat import LOSSES
from cmpnas.errors import RecipeError, unknown


def check_losses(weights: Mapping[str, float]) -> Mapping[str, float]:
    """``weights``, if there is a loss of each name.

    Raises:
        RecipeError: there is not.
    """
    for name in weights:
        if name not in LOSSES:
            raise RecipeError(unknown("loss", name, LOSSES))
    return weights


#: Names of losses to weights, one at least.
LossWeights = Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1), AfterValidator(check_losses)]
