"""Which pairs nothing else beats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmpnas.cost.budget import Budget
from cmpnas.errors import RunError, unknown
from cmpnas.search.records import Record, finished


def non_dominated(scores: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Indices of the points that no other beats, cheapest first.

    A point is dominated if another scores at least as high, costs at most as much in everything, and differs in
    one of them. Of equal points the first stays.

    Args:
        scores: float ``(N,)``; high is good.
        costs: float ``(N,)``, or ``(N, C)`` of several costs; low is good.
    """
    costs = costs[:, None] if costs.ndim == 1 else costs
    order = np.lexsort((-scores, *costs.T[::-1]))  # none is beaten by a later one
    if costs.shape[1] == 1:
        best = np.maximum.accumulate(scores[order])
        stays = np.concatenate([[True], scores[order][1:] > best[:-1]]) if len(order) else np.zeros(0, bool)
        return order[stays]
    front: list[int] = []
    for index in order:
        if not ((scores[front] >= scores[index]) & (costs[front] <= costs[index]).all(1)).any():
            front.append(int(index))
    return np.array(front, np.int64)


def front_pairs(
    records: Sequence[Record],
    budget: Budget,
    galleries: Mapping[str, Mapping[str, Any]],
    indexed_per_query: float = 0.0,
) -> list[tuple[Record, str]]:
    """The non-dominated pairs of ``records`` and gallery options, cheapest first; arguments as of `build_front`.

    What was stopped early is not among them.
    """
    points = [(record, name) for record in finished(records) for name in galleries if name in record.galleries]
    scores = np.array([record.galleries[name].heterogeneous for record, name in points])
    costs = [(record.cost(budget), indexed_per_query * galleries[name]["mflops"]) for record, name in points]
    return [points[index] for index in non_dominated(scores, np.array(costs))]


def build_front(
    records: Sequence[Record],
    *,
    recipe: str,
    budget: Budget,
    metric: str,
    galleries: Mapping[str, Mapping[str, Any]],
    paragon: dict[str, Any],
    indexed_per_query: float = 0.0,
) -> dict[str, Any]:
    """The content of ``front.json``: the non-dominated (query, gallery) pairs of ``records``.

    What counts is the heterogeneous score, `Record.cost`, and what indexing costs a query: ``indexed_per_query`` times
    the gallery option's multiply-adds an image.

    Args:
        budget: what every record was held to.
        galleries: by name, ``{"name", "kind", "mflops"}`` and more; other options in the records are passed over.
        paragon: ``{"gallery", "mflops", "score"}``, the anchor on both sides.
    """
    pairs = []
    for record, name in front_pairs(records, budget, galleries, indexed_per_query):
        pair, r1 = record.galleries[name], record.homogeneous
        r2 = pair.heterogeneous
        pairs.append(
            {
                "query": {
                    "space": record.arch.space,
                    "id": record.arch.id,
                    "arch": record.arch.to_json(),
                    "mflops": record.mflops,
                    "params_m": record.params_m,
                    "latency_ms": record.latency_ms,
                },
                "gallery": galleries[name],
                "scores": {"homogeneous": r1, "heterogeneous": r2, "interval": list(pair.interval)},
                "compatible": r2 > r1,
                "reward": {"r1": r1, "r2": r2, "r3": r1 * r2},
                "amortised_mflops": record.mflops + indexed_per_query * galleries[name]["mflops"],
                "cost_reduction": paragon["mflops"] / record.mflops,
                "paragon_gap": paragon["score"] - r2,
            }
        )
    return {
        "schema": 1,
        "recipe": recipe,
        "budget": budget.to_json(),
        "metric": metric,
        "indexed_per_query": indexed_per_query,
        "galleries": list(galleries.values()),
        "paragon": paragon,
        "pairs": pairs,
    }


def pick(front: dict[str, Any], which: str) -> dict[str, Any]:
    """One pair of a front by name.

    Args:
        which: ``best`` (highest score), ``cheapest``, ``knee`` (farthest from the line between those
            two, on log cost), ``20x`` (best of those at least 20 times cheaper in MFLOPs than the paragon), or the
            id of a query architecture. Other costs than that are milliseconds where those were limited.

    Raises:
        RunError: there is no such pair.
    """
    pairs = front["pairs"]
    scores = np.array([pair["scores"]["heterogeneous"] for pair in pairs])
    cost = "latency_ms" if "latency_ms" in front.get("budget", {}) else "mflops"
    costs = np.array([pair["query"][cost] for pair in pairs])
    if which == "best":
        return pairs[int(scores.argmax())]
    if which == "cheapest":
        return pairs[int(costs.argmin())]
    if which == "knee":
        return pairs[_knee(scores, np.log(costs))]
    if times := re.fullmatch(r"(\d+(?:\.\d+)?)x", which):
        return _at_least(pairs, float(times[1]))
    for pair in pairs:
        if pair["query"]["id"] == which:
            return pair
    ids = [pair["query"]["id"] for pair in pairs]
    raise RunError(unknown("pick", which, ["best", "knee", "cheapest", "20x", *ids]))


def _at_least(pairs: list[dict[str, Any]], times: float) -> dict[str, Any]:
    cheap = [pair for pair in pairs if pair["cost_reduction"] >= times]
    if not cheap:
        most = max(pair["cost_reduction"] for pair in pairs)
        raise RunError(f"no pair is {times:g} times cheaper than the paragon; the cheapest is {most:.1f} times.")
    return max(cheap, key=lambda pair: pair["scores"]["heterogeneous"])


def _knee(scores: np.ndarray, costs: np.ndarray) -> int:
    spans = np.ptp(costs) or 1.0, np.ptp(scores) or 1.0
    along, up = (costs - costs.min()) / spans[0], (scores - scores.min()) / spans[1]
    return int((up - along).argmax())
