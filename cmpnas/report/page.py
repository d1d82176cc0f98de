"""One run as one HTML file that asks nothing of a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmpnas.cost.budget import UNITS
from cmpnas.report.candidates import page_data, place
from cmpnas.report.examples import Group
from cmpnas.report.results import Searched
from cmpnas.search.front import pick
from cmpnas.space import SearchSpace

_TEMPLATE = Path(__file__).parent / "template"


@dataclass(frozen=True)
class Examples:
    """Example queries and what is to be said of them, or why there are none."""

    groups: Sequence[Group] = ()
    about: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Page:
    """Everything that a page shows.

    Attributes:
        pick: the pair of the front that is compared and shown in examples; ``pick_name`` is how it was asked for.
        evaluations: tables of `cmpnas.pipeline.evaluate.evaluate`, one for each split.
        ranking: the verdict of `cmpnas.pipeline.rank.rank`, or nothing.
        seconds: by stage.
    """

    run: Searched
    space: SearchSpace
    pick: dict[str, Any]
    pick_name: str
    examples: Examples
    manifest: dict[str, Any]
    recipe: str
    evaluations: Sequence[dict[str, Any]] = ()
    ranking: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


def render(page: Page) -> str:
    """The HTML of ``page``: the same results give the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    front = page.run.front
    content = page_data(page.run, page.space, [page.pick, _other(front, page.pick)])
    numbers = {name: n for n, name in enumerate(content["candidates"]["id"])}
    columns, rows = _table(page, numbers)
    environment = Environment(loader=FileSystemLoader(_TEMPLATE), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html").render(
        title=f"{front['recipe']}: run {page.run.name}",
        summary=_summary(page),
        pick_name=page.pick_name,
        css=Markup((_TEMPLATE / "report.css").read_text(encoding="utf-8")),
        js=Markup((_TEMPLATE / "report.js").read_text(encoding="utf-8")),
        data=Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
        columns=columns,
        rows=rows,
        matrices=_matrices(page),
        evaluations=[_scores(table) for table in page.evaluations],
        ranking=page.ranking,
        examples=page.examples,
        provenance=_provenance(page.manifest),
        seconds=[(name, f"{value:,.1f} s") for name, value in page.seconds.items()],
        recipe=page.recipe,
    )


def _other(front: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """A pair to compare a chosen one with at first: the best, or if that is it the knee."""
    best = pick(front, "best")
    return pick(front, "knee") if best is chosen else best


def _summary(page: Page) -> str:
    front, chosen = page.run.front, page.pick
    paragon, scores = front["paragon"], chosen["scores"]
    low, high = scores["interval"]
    return (
        f"Of {len(page.run.records):,} query networks evaluated under {_budget(front['budget'])}, "
        f"{len(front['pairs'])} pairs are beaten by no other in cost and {front['metric']}. "
        f"The {page.pick_name} costs {chosen['query']['mflops']:.4g} MFLOPs a query, {chosen['cost_reduction']:.1f} "
        f"times less than the paragon {paragon['gallery']} ({paragon['mflops']:.4g}). "
        f"With the supernet's weights it scores {scores['heterogeneous']:.4f} [{low:.4f}, {high:.4f}] against its "
        f"gallery, {100 * chosen['paragon_gap']:.2f} points below the paragon's {paragon['score']:.4f}."
    )


def _budget(budget: dict[str, float]) -> str:
    return " and ".join(f"{value:g} {UNITS[key]}" for key, value in budget.items()) or "no limit"


def _table(page: Page, numbers: dict[str, int]) -> tuple[list[str], list[dict[str, Any]]]:
    """Headings, and for each pair of the front what to sort by and what to show."""
    pairs = page.run.front["pairs"]
    latency = all(pair["query"].get("latency_ms") is not None for pair in pairs)
    several = len(page.run.galleries) > 1
    columns = ["MFLOPs", "M params", *(["ms"] * latency), "M(q,g)", "95% interval", "M(q,q)", "compatible", "reduction"]
    columns += ["points below paragon", *(["gallery"] * several), "query id"]
    rows = []
    for pair in pairs:
        query, scores = pair["query"], pair["scores"]
        low, high = scores["interval"]
        cells: list[tuple[Any, str]] = [
            (query["mflops"], f"{query['mflops']:.3f}"),
            (query["params_m"], f"{query['params_m']:.3f}"),
        ]
        if latency:
            cells.append((query["latency_ms"], f"{query['latency_ms']:.3g}"))
        cells += [
            (scores["heterogeneous"], f"{scores['heterogeneous']:.4f}"),
            (low, f"{low:.4f} to {high:.4f}"),
            (scores["homogeneous"], f"{scores['homogeneous']:.4f}"),
            (int(pair["compatible"]), "yes" if pair["compatible"] else "no"),
            (pair["cost_reduction"], f"{pair['cost_reduction']:.1f}x"),
            (pair["paragon_gap"], f"{100 * pair['paragon_gap']:.2f}"),
        ]
        if several:
            cells.append((pair["gallery"]["name"], pair["gallery"]["name"]))
        cells.append((query["id"], query["id"]))
        rows.append({"cells": cells, **place(pair, page.run, numbers)})
    return columns, rows


def _matrices(page: Page) -> list[dict[str, str]]:
    """M(q, q), M(q, g), M(g, g): of the pick with the supernet's weights, then of everything that was evaluated."""
    front, scores = page.run.front, page.pick["scores"]
    low, high = scores["interval"]
    matrices = [
        {
            "title": f"{page.pick_name}: {page.pick['query']['id']}",
            "caption": f"{front['metric']}, search split, the supernet's weights, g is {page.pick['gallery']['name']}",
            "own": f"{scores['homogeneous']:.4f}",
            "pair": f"{scores['heterogeneous']:.4f} [{low:.4f}, {high:.4f}]",
            "paragon": _paragon(page.pick["gallery"]["name"], front, f"{front['paragon']['score']:.4f}"),
            "verdict": "Compatible: M(q,g) > M(q,q)." if page.pick["compatible"] else "Not compatible.",
            "below": "",
        }
    ]
    for table in page.evaluations:
        metric = table["metrics"][0]
        known = {
            (system["kind"], system["query"], system["gallery"]): _cell(system, metric) for system in table["systems"]
        }
        paragon = known["paragon", None, front["paragon"]["gallery"]]
        for verdict in table["verdicts"]:
            query, gallery = verdict["query"], verdict["gallery"]
            kind = verdict["kind"]
            index = "" if kind == "heterogeneous" else f", its index {kind}"
            matrices.append(
                {
                    "title": f"{query}, trained: {verdict['id']}",
                    "caption": f"{metric}, {table['split']} split, {table['queries']} queries against "
                    f"{table['gallery_items']} items, g is {gallery}{index}",
                    "own": known["homogeneous", query, None],
                    "pair": known[kind, query, gallery],
                    "paragon": _paragon(gallery, front, paragon),
                    "verdict": verdict["text"],
                    "below": verdict.get("below", {}).get("text", ""),  # tables of before have none
                }
            )
    return matrices


def _paragon(gallery: str, front: dict[str, Any], score: str) -> str:
    """M(g, g), which is measured of the anchor alone."""
    anchor = front["paragon"]["gallery"]
    return f"M(g,g) {score}" if gallery == anchor else f"not measured; {anchor} on both sides has {score}"


def _scores(table: dict[str, Any]) -> dict[str, Any]:
    """A table of `evaluate` in words."""
    return {
        "split": table["split"],
        "caption": f"{table['queries']} queries ({table['excluded_queries']} excluded), "
        f"{table['gallery_items']} gallery items, chance hit@1 {table['chance']['hit@1']:.4f}; 95% intervals",
        "metrics": table["metrics"],
        "systems": [
            {
                "name": system["name"],
                "mflops": f"{system['mflops']:.3f}",
                "scores": [_cell(system, metric) for metric in table["metrics"]],
            }
            for system in table["systems"]
        ],
    }


def _cell(system: dict[str, Any], metric: str) -> str:
    low, high = system["intervals"][metric]
    return f"{system['scores'][metric]:.4f} [{low:.4f}, {high:.4f}]"


def _provenance(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    def listed(content: dict[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in content.items() if value is not None)

    opened = manifest["test_opened"]
    return [
        ("recipe", f"{manifest.get('recipe')} (hash {manifest.get('recipe_hash')})"),
        ("seed", str(manifest.get("seed"))),
        ("fingerprint of the data", str(manifest.get("data"))),
        ("versions", listed(manifest.get("versions", {}))),
        ("machine", listed(manifest.get("machine", {}))),
        ("test split opened", ", ".join(opened) or "never"),
    ]
