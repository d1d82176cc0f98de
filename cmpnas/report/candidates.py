"""Every candidate of a search as the page's script reads it: columns of numbers."""

from __future__ import annotations

import math
from typing import Any

from cmpnas.cost.budget import UNITS
from cmpnas.report.anatomy import anatomy
from cmpnas.report.results import Searched, cost_axis
from cmpnas.space import SearchSpace


def page_data(run: Searched, space: SearchSpace, chosen: list[dict[str, Any]]) -> dict[str, Any]:
    """What the front, the comparison and the table of a page are drawn from; every column is in order of evaluation.

    Args:
        chosen: the two pairs of ``run.front`` that are compared at first.

    Returns:
        ``candidates`` holds ``id``, a column for each cost that all records know (what the search lowered is the
        first of ``costs``), ``homogeneous`` (null where the search left it out), ``scores`` (for each gallery
        ``[score, low, high]``), ``choices`` (for each of ``decisions`` the place of its value, -1 for none) and
        ``macs`` (for each of ``positions`` the multiply-adds of the layer there, 0 for none).
    """
    lines = [record.to_json()["query"] for record in run.records]
    costs = {key: [line.get(key) for line in lines] for key in UNITS}
    own, _ = cost_axis(run.own_cost)
    known = {key: costs[key] for key in sorted(costs, key=lambda key: key != own) if None not in costs[key]}
    layers = [{part.position: part.macs for part in anatomy(space, record.arch)} for record in run.records]
    positions = _in_order(layers)
    decisions = list(space.decisions.items())
    taken = [dict(record.arch.choices) for record in run.records]
    numbers = {line["id"]: n for n, line in enumerate(lines)}
    front = run.front
    return {
        "metric": front["metric"],
        "budget": front["budget"],
        "paragon": front["paragon"],
        "galleries": run.galleries,
        "costs": [[key, UNITS[key]] for key in known],
        "decisions": decisions,
        "positions": positions,
        "chosen": [place(pair, run, numbers) for pair in chosen],
        "candidates": {
            "id": list(numbers),
            **known,
            "homogeneous": [None if math.isnan(own) else _short(own) for own in run.homogeneous.tolist()],
            "scores": [
                [[_short(pair.heterogeneous), *map(_short, pair.interval)] for pair in against]
                for against in ([record.galleries[name] for record in run.records] for name in run.galleries)
            ],
            "choices": [
                [values.index(choices[name]) if name in choices else -1 for name, values in decisions]
                for choices in taken
            ],
            "macs": [[at.get(position, 0) for position in positions] for at in layers],
        },
    }


def place(pair: dict[str, Any], run: Searched, numbers: dict[str, int]) -> dict[str, int]:
    """Where a pair of the front is in the columns."""
    return {"candidate": numbers[pair["query"]["id"]], "gallery": run.galleries.index(pair["gallery"]["name"])}


def _in_order(layers: list[dict[str, int]]) -> list[str]:
    """All positions in the order of the network: each after those that come before it in any architecture."""
    deepest: dict[str, int] = {}
    for at in layers:
        for depth, position in enumerate(at):
            deepest[position] = max(deepest.get(position, 0), depth)
    return sorted(deepest, key=lambda position: deepest[position])


def _short(value: float) -> float:
    """To what a page can show, so that it stays small."""
    return round(value, 5)
