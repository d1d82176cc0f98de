"""What the mean of a pair does not show: which queries it answers, and how evenly it finds the gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cmpnas.data import Protocol
from cmpnas.gallery.base import Indexed
from cmpnas.retrieval import Scores
from cmpnas.retrieval.diagnostics import Hubness, hit_overlap, hubness
from cmpnas.retrieval.nearest import nearest, some_queries

_NEAREST = 10


@dataclass(frozen=True)
class Answers:
    """What one system finds: its scores, and how evenly the gallery appears among its ten nearest."""

    scores: Scores
    hubness: Hubness

    @staticmethod
    def of(scores: Scores, query: np.ndarray, index: Indexed, task: Protocol) -> Answers:
        """Those of unit embeddings ``(Q, D)`` asked in ``index``; what it rejects is not in it.

        Where queries and gallery are many, a part of the queries says how evenly (`some_queries`).
        """
        asking, own = some_queries(len(query), len(index.gallery)), task.own_sources
        own = own and (own[0][asking], own[1])
        found = nearest(query[asking], index.gallery, _NEAREST, own, index.rejected)
        stays = np.ones(len(index.gallery), bool)
        stays[[] if index.rejected is None else index.rejected] = False
        number = np.cumsum(stays) - 1  # among those that stay
        return Answers(scores, hubness(np.where(found < 0, -1, number[found]), int(stays.sum())))


def below_the_mean(pair: Answers, paragon: Answers, metrics: list[str]) -> dict[str, Any]:
    """How a pair and the paragon differ query by query, in the first hit@k of ``metrics``, and item by item.

    Returns:
        ``overlap`` of the two (`hit_overlap`; None without a hit@k), ``hubness`` of each, and both as ``text``.
    """
    hit = next((name for name in metrics if name.startswith("hit@")), None)
    shares = None if hit is None else hit_overlap(pair.scores, paragon.scores, hit)
    text = ""
    if shares is not None:
        both, pairs, paragons, neither = map(_percent, shares.values())
        text = f"{hit}: both {both}, the pair alone {pairs}, the paragon alone {paragons}, neither {neither}; "
    found, known = pair.hubness, paragon.hubness
    text += (
        f"{_NEAREST} nearest: the most frequent 1% of the gallery take {_percent(found.top_percent)} of the places "
        f"(paragon {_percent(known.top_percent)}), {_percent(found.orphans)} of it has none "
        f"({_percent(known.orphans)})"
    )
    return {
        "overlap": None if shares is None else {"metric": hit, **shares},
        "hubness": {"pair": _told(found), "paragon": _told(known)},
        "text": text,
    }


def _told(found: Hubness) -> dict[str, float]:
    return {"skewness": found.skewness, "orphans": found.orphans, "top_percent": found.top_percent}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
