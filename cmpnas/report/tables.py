"""Results as tables for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_UNSEEN = 160  # columns where nobody's terminal sets them


def console() -> Console:
    """stdout, as wide as the terminal, or wide enough for a log."""
    probe = Console()
    return probe if probe.is_terminal else Console(width=_UNSEEN)


def print_front(front: dict[str, Any]) -> None:
    """The pairs of a front, cheapest first."""
    out = console()
    metric = front["metric"]
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("MFLOPs", "M params", f"M(q,g) {metric}", "95% interval", "M(q,q)", "reduction"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("query id", overflow="fold")
    for pair in front["pairs"]:
        query, scores = pair["query"], pair["scores"]
        low, high = scores["interval"]
        table.add_row(
            f"{query['mflops']:.3f}",
            f"{query['params_m']:.3f}",
            f"{scores['heterogeneous']:.4f}",
            f"{low:.4f} .. {high:.4f}",
            f"{scores['homogeneous']:.4f}",
            f"{pair['cost_reduction']:.1f}x",
            query["id"],
        )
    out.print(f"{front['recipe']}: {len(front['pairs'])} pairs that nothing beats, search split, supernet weights")
    out.print(table)
    paragon = front["paragon"]
    out.print(
        f"paragon M(g,g): {paragon['gallery']}, {paragon['mflops']:.4g} MFLOPs, {metric} {paragon['score']:.4f}",
        highlight=False,
    )


def print_evaluation(result: dict[str, Any]) -> None:
    """The final table: each system's scores with intervals, and the verdict of each pick."""
    out = console()
    out.print(
        f"{result['recipe']}: {result['split']} split, {result['queries']} queries "
        f"({result['excluded_queries']} excluded), {result['gallery_items']} gallery items, "
        f"chance hit@1 {result['chance']['hit@1']:.4f}; 95% intervals below the scores",
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("system", no_wrap=True)
    table.add_column("query MFLOPs", justify="right")
    for name in result["metrics"]:
        table.add_column(name, justify="right", no_wrap=True)
    for system in result["systems"]:
        cells = []
        for name in result["metrics"]:
            low, high = system["intervals"][name]
            cells.append(f"{system['scores'][name]:.4f}\n{low:.4f} .. {high:.4f}")
        table.add_row(system["name"], f"{system['mflops']:.3f}", *cells)
    out.print(table)
    for verdict in result["verdicts"]:
        out.print(verdict["text"], highlight=False)
