"""Results of text runs as tables for people."""

from __future__ import annotations

from typing import Any

from cmpnas.report.tables import add_numbers, begin, console, counted_pairs, span


def print_text_front(front: dict[str, Any]) -> None:
    """Encoders and numbers of candidates that nothing beats, cheapest first."""
    out, table = console(), begin()
    add_numbers(table, "MFLOPs a query", "encoder", "k", "cascade hit@1", "95% interval", "coarse hit@1", "reduction")
    table.add_column("encoder id", overflow="fold")
    for pair in front["pairs"]:
        query, scores = pair["query"], pair["scores"]
        table.add_row(
            f"{query['mflops']:.3f}",
            f"{query['encoder_mflops']:.3f}",
            str(pair["k"]),
            f"{scores['heterogeneous']:.4f}",
            span(scores["interval"]),
            f"{scores['homogeneous']:.4f}",
            f"{pair['cost_reduction']:.1f}x",
            query["id"],
        )
    out.print(f"{front['recipe']}: {counted_pairs(front)} that nothing beats, search split, supernet weights")
    out.print(table)
    paragon = front["paragon"]
    out.print(
        f"fine model over all pictures: {paragon['mflops']:.4g} MFLOPs, hit@1 {paragon['score']:.4f}", highlight=False
    )


def print_text_evaluation(result: dict[str, Any]) -> None:
    """Coarse alone, fine alone, cascades; and whether the plan held."""
    out, table = console(), begin("system")
    out.print(
        f"{result['recipe']}: {result['split']} split, {result['queries']} queries, {result['gallery_items']} "
        f"pictures, encoder {result['id']}; milliseconds of one thread, encoding included",
        highlight=False,
    )
    columns = "hit@1", "95% interval", "hit@5", "hit@10", "medR", "MFLOPs", "ms a query", "bytes a picture"
    add_numbers(table, *columns)
    chosen = f"cascade {result['plan']['k']}"
    for system in result["systems"]:
        table.add_row(
            system["name"] + (" (planned)" if system["name"] == chosen else ""),
            f"{system['scores']['hit@1']:.4f}",
            span(system["intervals"]["hit@1"]),
            *(f"{system['scores'][name]:.4f}" for name in ("hit@5", "hit@10")),
            f"{system['medr']:g}",
            f"{system['mflops']:.3f}",
            f"{system['milliseconds']:.3f}",
            str(system["bytes"]),
        )
    out.print(table)
    for name, first, second in (
        ("fine_over_coarse", "fine", "coarse"), ("cascade_over_fine", f"{chosen} (planned)", "fine")
    ):  # fmt: skip
        found = result[name]
        low, high = found["interval"]
        out.print(
            f"{first} minus {second}: {100 * found['difference']:+.2f} points of hit@1 "
            f"[{100 * low:+.2f}, {100 * high:+.2f}], p = {found['p_value']:.4f}",
            highlight=False,
        )
    plan = result["plan"]
    out.print(
        f"planned k = {plan['k']} (by {plan['binding']}): hit@1 {plan['hit']:.4f} expected, {plan['measured_hit']:.4f} "
        f"measured; {plan['milliseconds']:.3f} ms expected, {plan['measured_milliseconds']:.3f} measured; "
        f"the coarse score weighs {plan['weight']:.3g} beside the fine one; "
        f"{_pace(result['speedup'])} than the fine model over all pictures",
        highlight=False,
    )


def _pace(speedup: float) -> str:
    return f"{speedup:.1f}x faster" if speedup >= 1 else f"{1 / speedup:.1f}x slower"
