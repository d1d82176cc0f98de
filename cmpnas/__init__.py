"""cmpnas finds the best small query encoder for an index that a large gallery encoder built."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmpnas.cost import Budget, Cost
    from cmpnas.errors import CmpnasError
    from cmpnas.models import Supernet, build_network, calibrate
    from cmpnas.recipe import Recipe, load_recipe
    from cmpnas.retrieval import GalleryIndex, compatibility_matrix, evaluate_retrieval, evaluate_scores
    from cmpnas.space import Arch, SearchSpace, load_space

__version__ = "0.1.0"

_HOMES = {
    "Arch": "cmpnas.space",
    "Budget": "cmpnas.cost",
    "CmpnasError": "cmpnas.errors",
    "Cost": "cmpnas.cost",
    "GalleryIndex": "cmpnas.retrieval",
    "Recipe": "cmpnas.recipe",
    "SearchSpace": "cmpnas.space",
    "Supernet": "cmpnas.models",
    "build_network": "cmpnas.models",
    "calibrate": "cmpnas.models",
    "compatibility_matrix": "cmpnas.retrieval",
    "evaluate_retrieval": "cmpnas.retrieval",
    "evaluate_scores": "cmpnas.retrieval",
    "load_recipe": "cmpnas.recipe",
    "load_space": "cmpnas.space",
}
__all__ = [
    "Arch",
    "Budget",
    "CmpnasError",
    "Cost",
    "GalleryIndex",
    "Recipe",
    "SearchSpace",
    "Supernet",
    "build_network",
    "calibrate",
    "compatibility_matrix",
    "evaluate_retrieval",
    "evaluate_scores",
    "load_recipe",
    "load_space",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import cmpnas`` alone loads neither torch nor faiss."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cmpnas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
