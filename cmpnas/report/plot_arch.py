"""One architecture as a picture: its layers from picture to embedding, and where its cost is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

from cmpnas.report.anatomy import Part
from cmpnas.report.style import LOOKS, legend_below, picture

_HATCHES = {0: "", 1: "", 3: "///", 5: "xxx", 7: "ooo"}
_ROW = 0.33  # inches


def plot_arch(parts: Sequence[Part], title: str, path: Path) -> None:
    """Draw the layers from top to bottom: width, kernel, and shares of multiply-adds and parameters.

    Args:
        parts: as `cmpnas.report.anatomy.anatomy` gives them.
        path: PNG, SVG or PDF by its suffix; the same architecture gives the same file.

    Raises:
        CmpnasError: ``path`` cannot be written.
    """
    rows = range(len(parts))
    with picture(path, (10, 1.6 + _ROW * len(parts))) as figure:
        shape, cost = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for number, (_, stage) in enumerate(groupby(rows, lambda row: parts[row].position.split(".")[0])):
            band = list(stage)
            for axes in (shape, cost):
                axes.axhspan(band[0] - 0.5, band[-1] + 0.5, color="0.94" if number % 2 else "white", lw=0, zorder=0)
        _draw_shape(shape, parts)
        _draw_cost(cost, parts)
        figure.suptitle("\n".join(wrap(title, 120)), fontsize=10)
        legend_below(figure, 6)


def _draw_shape(axes: Any, parts: Sequence[Part]) -> None:
    widest = max(part.cout for part in parts)
    named: set[int] = set()
    for row, part in enumerate(parts):
        kernel = f"kernel {part.kernel}x{part.kernel}" if part.kernel and part.kernel not in named else None
        named.add(part.kernel)
        axes.barh(
            row, part.cout, 0.7, left=-part.cout / 2, fc="#cfe3f2" if part.kernel else "white", ec="black", lw=0.8,
            hatch=_HATCHES.get(part.kernel, "..."), label=kernel,
        )  # fmt: skip
        axes.text(0.58 * widest, row, part.shape, va="center", fontsize=8)
    axes.set_yticks(range(len(parts)), [f"{part.position}   {part.what}" for part in parts], fontsize=8)
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xlim(-0.55 * widest, 1.65 * widest)
    axes.set_xticks([])
    axes.set_title("layers; boxes as wide as their channels", fontsize=9)


def _draw_cost(axes: Any, parts: Sequence[Part]) -> None:
    most = 0.0
    for name, what, below, look in (
        ("macs", "multiply-adds", -0.19, LOOKS[0]),
        ("params", "parameters", 0.19, LOOKS[1]),
    ):
        counts = [getattr(part, name) for part in parts]
        shares = [100 * count / sum(counts) for count in counts]
        most = max(most, *shares)
        rows = [row + below for row in range(len(parts))]
        axes.barh(
            rows, shares, 0.34, fc=look.colour if below < 0 else "white", ec=look.colour, lw=0.9,
            label=f"share of {sum(counts) / 1e6:.4g} million {what}",
        )  # fmt: skip
        for row, share in zip(rows, shares, strict=True):
            axes.text(share + 0.01 * most, row, f"{share:.1f}%", va="center", fontsize=6.5)
    axes.set_xlim(0, 1.15 * most)
    axes.set_xlabel("share (%)", fontsize=8)
    axes.tick_params(left=False, labelsize=8)
    axes.set_title("where the cost is", fontsize=9)
    axes.grid(axis="x", alpha=0.25)
