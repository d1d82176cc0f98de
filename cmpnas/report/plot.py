"""The accuracy-cost front and the ranking as pictures; reads results only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import CmpnasError
from cmpnas.search.records import Record

_SUFFIXES = (".png", ".svg", ".pdf")


def plot_front(front: dict[str, Any], records: Sequence[Record], path: Path) -> None:
    """Draw candidates, front, paragon and budget to ``path`` (PNG, SVG or PDF by its suffix).

    The same results give the same file.

    Raises:
        CmpnasError: the suffix is none of these, or the folder does not exist.
    """
    check_path(path)
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "cmpnas"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    name = front["pairs"][0]["gallery"]["name"] if front["pairs"] else next(iter(records[0].galleries))
    cost = np.array([record.mflops for record in records])
    score = np.array([record.galleries[name].heterogeneous for record in records])
    own = np.array([record.homogeneous for record in records])
    axes.scatter(cost, own, s=12, c="0.75", marker="x", linewidths=0.8, label="candidates, homogeneous M(q, q)")
    axes.scatter(cost, score, s=14, c="#7aa6d6", label=f"{len(records)} candidates, heterogeneous M(q, g)")
    _draw_pairs(axes, front["pairs"])
    paragon = front["paragon"]
    axes.axhline(paragon["score"], color="#b2443c", lw=1, ls=":")
    axes.plot(
        paragon["mflops"], paragon["score"], "*", ms=13, c="#b2443c",
        label=f"paragon M(g, g): {paragon['gallery']}, {paragon['mflops']:.4g} MFLOPs",
    )  # fmt: skip
    if (limit := front["budget"].get("mflops")) is not None:
        axes.axvline(limit, color="0.3", lw=1, ls="--", label=f"budget: {limit:g} MFLOPs")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("query cost (MFLOPs an image: million multiply-adds; log scale)")
    axes.set_ylabel(f"{front['metric']} on the search split (0 to 1)")
    axes.set_title(f"{front['recipe']}: score against query cost")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8)
    save(figure, path)


def plot_rank(result: dict[str, Any], lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw each architecture's score alone against its score with the supernet's weights, coloured by cost.

    Args:
        result: what `cmpnas.pipeline.rank.rank` returns.
        lines: those of ``rank.jsonl``.

    Raises:
        CmpnasError: ``path`` cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5.5), layout="constrained")
    supernet, alone = (
        {name: np.array([line[side][name] for line in lines]) for name in ("heterogeneous", "interval")}
        for side in ("supernet", "alone")
    )
    x, y = supernet["heterogeneous"], alone["heterogeneous"]
    axes.errorbar(
        x, y, xerr=np.abs(supernet["interval"].T - x), yerr=np.abs(alone["interval"].T - y),
        fmt="none", ecolor="0.85", elinewidth=0.8, label="95% intervals over queries",
    )  # fmt: skip
    cost = [line["query"]["mflops"] for line in lines]
    points = axes.scatter(x, y, c=cost, cmap="viridis", s=36, zorder=3, label=f"{len(lines)} architectures")
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
    save(figure, path)


def check_path(path: Path) -> None:
    """Raise CmpnasError if no picture can be drawn to ``path``: the suffix is unknown, or there is no such folder."""
    if path.suffix not in _SUFFIXES:
        raise CmpnasError(f"cannot plot to {path.name!r}; use a name that ends in {', '.join(_SUFFIXES)}.")
    if not path.parent.is_dir():
        raise CmpnasError(f"folder {path.parent} does not exist; make it or plot elsewhere.")


def save(figure: Any, path: Path) -> None:
    """Write the figure without a clock in it, and close it."""
    from matplotlib import pyplot as plt

    metadata = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else None
    try:
        figure.savefig(path, dpi=150, metadata=metadata)
    except OSError as fault:
        raise CmpnasError(f"cannot write {path}: {fault.strerror}; plot elsewhere.") from None
    finally:
        plt.close(figure)


def _draw_pairs(axes: Any, pairs: Sequence[dict[str, Any]]) -> None:
    cost = np.array([pair["query"]["mflops"] for pair in pairs])
    score = np.array([pair["scores"]["heterogeneous"] for pair in pairs])
    span = np.array([pair["scores"]["interval"] for pair in pairs]).reshape(-1, 2).T
    axes.errorbar(
        cost, score, yerr=np.abs(span - score), fmt="o-", color="#1f4e8c", ms=5, lw=1.4,
        elinewidth=0.8, capsize=2, label=f"front: {len(pairs)} pairs, 95% intervals",
    )  # fmt: skip
