"""Exact retrieval scores with named definitions, and the gallery index."""

from cmpnas.retrieval.evaluate import Scores, evaluate_retrieval, evaluate_scores
from cmpnas.retrieval.index import GalleryIndex
from cmpnas.retrieval.matrix import Matrix, compatibility_matrix

__all__ = [
    "GalleryIndex",
    "Matrix",
    "Scores",
    "compatibility_matrix",
    "evaluate_retrieval",
    "evaluate_scores",
]
