"""Searches as pictures: the accuracy-cost front, and how it came about. Reads results only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.cost.budget import UNITS
from cmpnas.report.references import Point
from cmpnas.report.results import Searched, cost_axis, same_metric
from cmpnas.report.style import PARAGON, Look, legend_below, log_cost, look, picture
from cmpnas.search.hypervolume import growth

_SHOWN = 4000  # candidates in one picture; of more, evenly chosen ones, so that a vector file stays small
_NAMED = 3  # finished picks, at most
_INTERVALS = 25  # of one front: more of them would hide each other


def plot_front(
    runs: Sequence[Searched], path: Path, *, cost: str | None = None, references: Sequence[Point] = ()
) -> dict[str, Any]:
    """Draw candidates and front of each run and gallery, picks trained to the end, paragons and budgets.

    Args:
        path: PNG, SVG or PDF by its suffix; the same results give the same file.
        cost: one of `cmpnas.report.results.COSTS`, by default what the first run's search lowered.
        references: networks to compare with, on the same split and against the same gallery.

    Returns:
        ``{"metric", "cost", "lines": [{"run", "gallery", "candidates", "pairs"}]}``: what is in the picture.

    Raises:
        CmpnasError: the runs are of different metrics, a cost is not known, or ``path`` cannot be written.
    """
    metric = same_metric(runs)
    cost = cost or runs[0].own_cost
    key, label = cost_axis(cost)
    lines = []
    several, beaten = len(runs) > 1, False
    with picture(path, (8, 6)) as figure:
        axes = figure.add_subplot()
        for number, (run, gallery, name) in enumerate(_series(runs)):
            costs, best = run.costs(cost, gallery), run.best(gallery, cost)
            known = np.flatnonzero(~np.isnan(run.homogeneous))
            if not several and number == 0 and len(known):
                shown = known[_some(len(known))]
                axes.scatter(
                    costs[shown], run.homogeneous[shown], s=12, c="0.72", marker="x", linewidths=0.8,
                    label="candidates, homogeneous M(q, q)",
                )  # fmt: skip
            _draw_front(axes, run, gallery, costs, best, look(number), name)
            if cost == run.own_cost:
                beaten |= _whiten_beaten(axes, run, gallery, costs, best, look(number))
            lines.append({"run": run.name, "gallery": gallery, "candidates": len(costs), "pairs": len(best)})
        _draw_points(axes, _trained(runs), key, "X", "trained to the end")
        _draw_points(axes, references, key, "h", "other networks")
        _draw_paragons(axes, runs, cost)
        _draw_budgets(axes, runs, key)
        if beaten:
            axes.plot(
                [], [], "o", ms=5.5, mfc="white", mec="black", label="white: a pair with another gallery beats it"
            )
        log_cost(axes, label)
        axes.set_ylabel(f"{metric} on the search split (0 to 1)")
        axes.set_title(
            "score against query cost" if several else f"{runs[0].front['recipe']}: score against query cost"
        )
        axes.grid(alpha=0.25)
        legend_below(figure)
    return {"metric": metric, "cost": cost, "lines": lines}


def plot_progress(runs: Sequence[Searched], path: Path) -> dict[str, Any]:
    """Draw the hypervolume that each search has found by each evaluation (`cmpnas.search.hypervolume.growth`).

    Costs are in MFLOPs, from the cheapest to the dearest that any of the runs evaluated.

    Returns:
        ``{"metric", "mflops": [low, high], "lines": [{"run", "gallery", "evaluations", "hypervolume"}]}``.

    Raises:
        CmpnasError: the runs are of different metrics, or ``path`` cannot be written.
    """
    metric = same_metric(runs)
    every = np.concatenate([run.costs("mflops", run.galleries[0]) for run in runs])
    low, high = float(every.min()), max(float(every.max()), float(every.min()) * 1.001)
    lines = []
    with picture(path, (8, 5)) as figure:
        axes = figure.add_subplot()
        for number, (run, gallery, name) in enumerate(_series(runs)):
            style = look(number)
            reached = growth(run.scores(gallery)[0], run.costs("mflops", gallery), floor=0.0, span=(low, high))
            axes.step(
                np.arange(1, len(reached) + 1), reached, where="post", c=style.colour, ls=style.line, lw=1.6,
                marker=style.marker, ms=5, markevery=max(1, len(reached) // 8), label=f"{name}: {reached[-1]:.4f}",
            )  # fmt: skip
            line = {"run": run.name, "gallery": gallery, "evaluations": len(reached)}
            lines.append(line | {"hypervolume": float(reached[-1])})
        axes.set_xlabel("architectures evaluated")
        axes.set_ylabel(
            f"hypervolume: best {metric} at or below a cost,\nmean over {low:.3g} to {high:.3g} MFLOPs (log)"
        )
        axes.set_title("search progress")
        axes.grid(alpha=0.25)
        legend_below(figure)
    return {"metric": metric, "mflops": [low, high], "lines": lines}


def _series(runs: Sequence[Searched]) -> Iterator[tuple[Searched, str, str]]:
    """Each run and gallery option, with as much of their names as tells them apart."""
    for run in runs:
        for gallery in run.galleries:
            parts = ([run.name] if len(runs) > 1 else []) + ([gallery] if len(run.galleries) > 1 else [])
            yield run, gallery, ", ".join(parts) or run.name


def _some(n: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, _SHOWN)).astype(int))


def _draw_front(
    axes: Any, run: Searched, gallery: str, costs: np.ndarray, best: np.ndarray, style: Look, name: str
) -> None:
    scores, intervals = run.scores(gallery)
    rest = np.setdiff1d(_some(len(costs)), best)
    axes.scatter(
        costs[rest], scores[rest], s=13, c=style.colour, marker=style.marker, alpha=0.35, linewidths=0,
        label=f"{name}: {len(costs)} candidates, heterogeneous M(q, g)",
    )  # fmt: skip
    axes.errorbar(
        costs[best], scores[best], yerr=np.abs(intervals[best].T - scores[best]), c=style.colour, marker=style.marker,
        ls=style.line, ms=5.5, mec="black", mew=0.6, lw=1.4, elinewidth=0.8, capsize=2,
        errorevery=max(1, len(best) // _INTERVALS),
        label=f"{name}: front of {len(best)} pairs, 95% intervals",
    )  # fmt: skip


def _whiten_beaten(axes: Any, run: Searched, gallery: str, costs: np.ndarray, best: np.ndarray, style: Look) -> bool:
    """Leave those pairs white that one with another gallery beats; whether there are any."""
    kept = {(pair["query"]["id"], pair["gallery"]["name"]) for pair in run.front["pairs"]}
    beaten = [n for n in best if (run.records[n].arch.id, gallery) not in kept]
    axes.plot(
        costs[beaten], run.scores(gallery)[0][beaten], c=style.colour, marker=style.marker, ms=5.5, mfc="white",
        ls="none", zorder=3,
    )  # fmt: skip
    return bool(beaten)


def _trained(runs: Sequence[Searched]) -> list[Point]:
    """Finished picks, without names where they would hide each other."""
    points = [point for run in runs for point in run.trained]
    return points if len(points) <= _NAMED else [point.model_copy(update={"name": ""}) for point in points]


def _draw_points(axes: Any, points: Sequence[Point], key: str, marker: str, label: str) -> None:
    """Networks that were not searched; those of unknown cost cannot be drawn."""
    known = [(point, cost) for point in points if (cost := getattr(point, key, None)) is not None]
    for number, (point, cost) in enumerate(known):
        low, high = point.interval or (point.score, point.score)
        axes.errorbar(
            cost, point.score, yerr=[[point.score - low], [high - point.score]], marker=marker, ms=11, c="0.35",
            mfc="white", mec="black", ls="none", elinewidth=0.8, capsize=2, zorder=4,
            label=None if number else label,
        )  # fmt: skip
        axes.annotate(point.name, (cost, point.score), (7, -11), textcoords="offset points", fontsize=7, zorder=5)


def _draw_paragons(axes: Any, runs: Sequence[Searched], cost: str) -> None:
    """Each gallery model on both sides: a star where its cost is known, a line of its score in any case."""
    seen = set()
    for run in runs:
        paragon = run.front["paragon"]
        at, what = run.paragon_cost(cost), (paragon["gallery"], paragon["score"])
        if what in seen:
            continue
        seen.add(what)
        others = (other.front["paragon"] for other in runs)
        alike = {other["score"] for other in others if other["gallery"] == paragon["gallery"]}
        name = f"{paragon['gallery']} of {run.name}" if len(alike) > 1 else paragon["gallery"]
        label = f"paragon M(g, g): {name}, {paragon['mflops']:.4g} MFLOPs, {paragon['score']:.4f}"
        axes.axhline(paragon["score"], color=PARAGON, lw=0.9, ls=":", label=None if at else label)
        if at:
            axes.plot(at, paragon["score"], "*", ms=14, c=PARAGON, ls="none", label=label)


def _draw_budgets(axes: Any, runs: Sequence[Searched], key: str) -> None:
    limits = {run.front["budget"][key] for run in runs if run.front["budget"].get(key) is not None}
    for limit in sorted(limits):
        axes.axvline(limit, color="0.3", lw=1, ls="--", label=f"budget: {limit:g} {UNITS[key]}")
