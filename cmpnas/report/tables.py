"""Results as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_front(front: dict[str, Any], console: Console) -> None:
    """The pairs of a front, cheapest first."""
    table = Table(title=f"{front['recipe']}: {len(front['pairs'])} pairs that nothing beats", title_justify="left")
    for name in ("query", "MFLOPs", "M params", f"M(q,g) {front['metric']}", "95% interval", "M(q,q)", "reduction"):
        table.add_column(name, overflow="fold", justify="left" if name == "query" else "right")
    for pair in front["pairs"]:
        query, scores = pair["query"], pair["scores"]
        low, high = scores["interval"]
        table.add_row(
            query["id"],
            f"{query['mflops']:.3f}",
            f"{query['params_m']:.3f}",
            f"{scores['heterogeneous']:.4f}",
            f"{low:.4f} .. {high:.4f}",
            f"{scores['homogeneous']:.4f}",
            f"{pair['cost_reduction']:.1f}x",
        )
    console.print(table)
    paragon = front["paragon"]
    console.print(
        f"paragon M(g,g): {paragon['gallery']}, {paragon['mflops']:.4g} MFLOPs, {paragon['score']:.4f}",
        highlight=False,
    )


def print_evaluation(result: dict[str, Any], console: Console) -> None:
    """The final table: each system's scores with intervals, and the verdict of each pick."""
    table = Table(
        title=f"{result['recipe']}: {result['split']} split, {result['queries']} queries", title_justify="left"
    )
    table.add_column("system", overflow="fold")
    table.add_column("query MFLOPs", justify="right")
    for name in result["metrics"]:
        table.add_column(name, justify="right")
    for system in result["systems"]:
        cells = []
        for name in result["metrics"]:
            low, high = system["intervals"][name]
            cells.append(f"{system['scores'][name]:.4f}\n{low:.4f}..{high:.4f}")
        table.add_row(system["name"], f"{system['mflops']:.3f}", *cells)
        table.add_section()
    console.print(table)
    for verdict in result["verdicts"]:
        console.print(verdict["text"], highlight=False)
