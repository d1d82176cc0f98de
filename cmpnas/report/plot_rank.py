"""The ranking certificate as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.report.style import picture


def plot_rank(result: dict[str, Any], lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw each architecture's score alone against its score with the supernet's weights, coloured by cost.

    Args:
        result: what `cmpnas.pipeline.rank.rank` returns.
        lines: those of ``rank.jsonl``.

    Raises:
        CmpnasError: ``path`` cannot be written.
    """
    supernet, alone = (
        {name: np.array([line[side][name] for line in lines]) for name in ("heterogeneous", "interval")}
        for side in ("supernet", "alone")
    )
    x, y = supernet["heterogeneous"], alone["heterogeneous"]
    with picture(path, (7, 5.5)) as figure:
        axes = figure.add_subplot()
        axes.errorbar(
            x, y, xerr=np.abs(supernet["interval"].T - x), yerr=np.abs(alone["interval"].T - y),
            fmt="none", ecolor="0.85", elinewidth=0.8, label="95% intervals over queries",
        )  # fmt: skip
        cost = [line["query"]["mflops"] for line in lines]
        points = axes.scatter(
            x, y, c=cost, cmap="viridis", s=36, zorder=3, ec="black", lw=0.5, label=f"{len(lines)} architectures"
        )
        figure.colorbar(points, label="MFLOPs an image")
        tau = result["kendall"]
        title = f"{result['recipe']}, space {result['space']}"
        if tau["value"] is not None:
            low, high = tau["interval"]
            title += f": Kendall tau {tau['value']:.3f} [{low:.3f}, {high:.3f}]"
        axes.set_title(title)
        axes.set_xlabel(f"{result['metric']} with the supernet's weights (search split)")
        axes.set_ylabel(f"{result['metric']} trained alone (search split)")
        axes.grid(alpha=0.25)
        axes.legend(loc="lower right", fontsize=8)
