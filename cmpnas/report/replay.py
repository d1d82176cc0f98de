"""Controllers side by side as a picture and a table; reads results only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmpnas.report.style import look, picture

#: Evaluations after which a table says how far a controller is.
MILESTONES = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)


def plot_replay(result: dict[str, Any], path: Path) -> None:
    """Draw the share of the hypervolume by evaluation, median and quartiles, to ``path``.

    Args:
        result: what `cmpnas.pipeline.replay.replay` returns.

    Raises:
        CmpnasError: ``path`` cannot be written.
    """
    with picture(path, (8, 5)) as figure:
        axes = figure.add_subplot()
        evaluations = range(1, result["trials"] + 1)
        for number, (name, entry) in enumerate(result["controllers"].items()):
            lower, median, upper = entry["shares"]
            style = look(number)
            axes.plot(
                evaluations, median, lw=1.5, c=style.colour, ls=style.line, marker=style.marker, ms=5,
                markevery=max(1, result["trials"] // 8), label=name,
            )  # fmt: skip
            axes.fill_between(evaluations, lower, upper, color=style.colour, alpha=0.15, lw=0)
        recording = result["recording"]
        axes.set_xlabel("evaluations")
        axes.set_ylabel("share of the hypervolume of all records")
        axes.set_title(
            f"{recording['architectures']:,} architectures of {recording['space']}: "
            f"median and quartiles of {result['seeds']} seeds"
        )
        last = [entry["shares"][0][-1] for entry in result["controllers"].values()]
        axes.set_ylim(min(0.6, *last), 1.005)
        axes.grid(alpha=0.25)
        axes.legend(loc="lower right", fontsize=8)


def milestones(result: dict[str, Any]) -> list[int]:
    """Evaluations that are worth a column."""
    return sorted({n for n in MILESTONES if n < result["trials"]} | {result["trials"]})


def print_replay(result: dict[str, Any]) -> None:
    """One line a controller: the share of the hypervolume after so many evaluations."""
    recording, columns = result["recording"], milestones(result)
    print(f"{recording['architectures']:,} architectures of space {recording['space']!r}; share of their hypervolume,")
    print(f"median [quartiles] of {result['seeds']} seeds, after evaluations:")
    width = max(map(len, result["controllers"]))
    print(" " * width + "".join(f"{n:>22}" for n in columns) + "  processor")
    for name, entry in result["controllers"].items():
        cells = [[entry["shares"][quartile][n - 1] for quartile in (1, 0, 2)] for n in columns]
        shown = "".join(f"  {median:.3f} [{low:.3f}, {high:.3f}]" for median, low, high in cells)
        print(f"{name:<{width}}{shown}  {entry['seconds']:.1f} s")
