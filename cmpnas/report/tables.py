"""Results as tables for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_UNSEEN = 160  # columns where nobody's terminal sets them


def console() -> Console:
    """stdout, as wide as the terminal, or wide enough for a log."""
    probe = Console(markup=False, emoji=False)  # names of files and runs are shown as they are
    return probe if probe.is_terminal else Console(markup=False, emoji=False, width=_UNSEEN)


def begin(*names: str) -> Table:
    """An empty table with columns of names."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def add_numbers(table: Table, *names: str) -> None:
    """Add columns of numbers."""
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)


def span(interval: tuple[float, float]) -> str:
    """An interval of scores."""
    low, high = interval
    return f"{low:.4f} .. {high:.4f}"


def counted_pairs(front: dict[str, Any]) -> str:
    """How many pairs there are, in words."""
    return f"{len(front['pairs'])} pair{'s' * (len(front['pairs']) != 1)}"


def print_front(front: dict[str, Any]) -> None:
    """The pairs of a front, cheapest first."""
    out, table = console(), begin()
    metric, several = front["metric"], len(front["galleries"]) > 1
    timed = all(pair["query"].get("latency_ms") is not None for pair in front["pairs"])
    add_numbers(
        table, "MFLOPs", "M params", *(["ms"] * timed), f"M(q,g) {metric}", "95% interval", "M(q,q)", "reduction"
    )
    if several:
        table.add_column("gallery", no_wrap=True)
    table.add_column("query id", overflow="fold")
    for pair in front["pairs"]:
        query, scores = pair["query"], pair["scores"]
        table.add_row(
            f"{query['mflops']:.3f}",
            f"{query['params_m']:.3f}",
            *([f"{query['latency_ms']:.3g}"] if timed else []),
            f"{scores['heterogeneous']:.4f}",
            span(scores["interval"]),
            f"{scores['homogeneous']:.4f}",
            f"{pair['cost_reduction']:.1f}x",
            *([pair["gallery"]["name"]] if several else []),
            query["id"],
        )
    out.print(f"{front['recipe']}: {counted_pairs(front)} that nothing beats, search split, supernet weights")
    out.print(table)
    paragon = front["paragon"]
    for gallery in front["galleries"] if several else []:
        out.print(
            f"gallery {gallery['name']} ({gallery['kind']}): indexing costs {gallery['mflops']:.4g} MFLOPs and "
            f"{gallery['index_bytes']} bytes an image, {gallery['kept_bytes']} more kept beside the index",
            highlight=False,
        )
    if several:
        out.print(f"gallery images indexed per query served: {front['indexed_per_query']:g}", highlight=False)
    out.print(
        f"paragon M(g,g): {paragon['gallery']}, {paragon['mflops']:.4g} MFLOPs, {metric} {paragon['score']:.4f}",
        highlight=False,
    )


def print_evaluation(result: dict[str, Any]) -> None:
    """The final table: each system's scores with intervals, and the verdict of each pick."""
    out, table = console(), begin("system")
    out.print(
        f"{result['recipe']}: {result['split']} split, {result['queries']} queries "
        f"({result['excluded_queries']} excluded), {result['gallery_items']} gallery items, "
        f"chance hit@1 {result['chance']['hit@1']:.4f}; 95% intervals below the scores",
        highlight=False,
    )
    table.add_column("query MFLOPs", justify="right")
    add_numbers(table, *result["metrics"])
    for system in result["systems"]:
        cells = [f"{system['scores'][name]:.4f}\n{span(system['intervals'][name])}" for name in result["metrics"]]
        table.add_row(system["name"], f"{system['mflops']:.3f}", *cells)
    out.print(table)
    for verdict in result["verdicts"]:
        out.print(verdict["text"], highlight=False)
        out.print("  " + verdict["below"]["text"], highlight=False)
    for found in result["rejections"]:
        out.print(_rejection(found), highlight=False)
    if "pairs" in result:
        pairs = result["pairs"]
        out.print(
            f"front: {pairs['n']} pairs scored anew, at most {pairs['max_abs_difference']:.2g} from what is recorded",
            highlight=False,
        )


def _rejection(found: dict[str, Any]) -> str:
    low, high = (100 * value for value in found["gain_interval"])
    least, most = (100 * value for value in found["metric_gain_interval"])
    areas, share = found["areas"], found["share_of_oracle"]
    return (
        f"{found['query']} against {found['gallery']}: without the {100 * (1 - found['coverage']):.1f}% of its images "
        f"that its members disagree on most, 1 - hit@1 is {found['error']:.4f} instead of {found['error_before']:.4f} "
        f"(hit@1 {100 * found['gain']:+.2f} points [{low:+.2f}, {high:+.2f}], {found['metric']} "
        f"{100 * found['metric_gain']:+.2f} [{least:+.2f}, {most:+.2f}], {found['queries']} queries); "
        f"area below the risk-coverage curve {areas['risk']:.4f}, by chance {areas['random']:.4f}, "
        f"oracle {areas['oracle']:.4f}" + ("" if share is None else f": {100 * share:.0f}% of the way")
    )


def print_matrix(result: dict[str, Any]) -> None:
    """Every pair of encoders with its verdict."""
    out, table = console(), begin("M(query, gallery)")
    add_numbers(table, result["metric"], "95% interval", "over M(q,q)", "below paragon", "update gain", "ties")
    table.add_column("verdict")
    for row in result["pairs"]:
        gain, gap, update = (row.get(name) for name in ("gain", "paragon_gap", "update_gain"))
        table.add_row(
            f"M({row['query']}, {row['gallery']})",
            f"{row['score']:.4f}",
            span(row["interval"]),
            "" if gain is None else f"{gain:+.4f} [{row['gain_interval'][0]:+.4f}, {row['gain_interval'][1]:+.4f}]",
            "" if gap is None else f"{gap:.4f}",
            "" if update is None else f"{update:.2f}",
            f"{100 * row['tie_share']:.1f}%",
            row["verdict"],
        )
    out.print(table)
    for q, g in result["other_width"]:
        out.print(f"M({q}, {g}): embeddings of different width, not paired", highlight=False)
    out.print(
        f"{result['queries']} queries ({result['excluded_queries']} excluded), chance {result['chance']:.4f}; "
        "intervals are 95% bootstrap over queries",
        highlight=False,
    )


def print_rank(result: dict[str, Any]) -> None:
    """How the supernet's order, and that of cost, agree with training alone."""
    out, table = console(), begin("order, against training alone")
    add_numbers(table, "n", "Kendall tau-b", "95% interval", "Spearman rho", "95% interval")
    top, whole = result["top_half"], str(result["n"])
    for name, n, kendall, spearman in (
        ("supernet's weights", whole, result["kendall"], result["spearman"]),
        ("MFLOPs: the null to beat", whole, result["cost"]["kendall"], result["cost"]["spearman"]),
        ("supernet, MFLOPs held fixed (partial)", whole, result["partial"], None),
        ("supernet, among the better half alone", str(top["n"]), top["kendall"], top["spearman"]),
    ):
        table.add_row(name, n, *_estimate(kendall), *(_estimate(spearman) if spearman else ("", "")))
    out.print(
        f"{result['recipe']}: {result['n']} architectures of {result['space']}, {result['metric']} on the search split",
        highlight=False,
    )
    out.print(table)
    out.print(result["verdict"], highlight=False)
    out.print(f"intervals are 95% bootstrap over architectures, {result['resamples']} resamples", highlight=False)


def _estimate(estimate: dict[str, Any]) -> tuple[str, str]:
    if estimate["value"] is None:
        return "undefined", ""
    low, high = estimate["interval"]
    return f"{estimate['value']:.3f}", f"{low:.3f} .. {high:.3f}"


def print_results(report: dict[str, Any]) -> None:
    """A benchmark's own table, and what else was measured with it."""
    out, table = console(), begin("part", "metric")
    add_numbers(table, "score", "95% interval", "queries", "excluded", "ties")
    for line in report["results"]:
        ties = "" if line["tie_share"] is None else f"{100 * line['tie_share']:.2f}%"
        table.add_row(
            line["part"],
            line["metric"],
            f"{line['value']:.4f}",
            "" if line["interval"] is None else span(line["interval"]),
            str(line["queries"]),
            str(line["excluded"]),
            ties,
        )
    out.print(table)
    out.print(
        f"ties ({report.get('ties', 'pessimistic')}): relevant items ranked that equal one that is not relevant",
        highlight=False,
    )
    if "index" in report:
        index = report["index"]
        out.print(f"index {index['factory']}: recall@10 {index['recall@10']:.4f} of the exact search", highlight=False)
    for metric, pair in report.get("against", {}).items():
        low, high = pair["interval"]
        out.print(
            f"{metric}: first minus second {pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}], p = "
            f"{pair['p_value']:.4f}, better on {pair['wins']} queries, worse on {pair['losses']}",
            highlight=False,
        )


def print_bundle(out: str, manifest: dict[str, Any]) -> None:
    """The files of an exported bundle, how they were checked, and what they are worth against the index."""
    for name, file in manifest["files"].items():
        checked = manifest["proof"].get(name)
        print(f"{out}/{name}: {file['bytes']:,} bytes" + (f", {_compared(checked)}" if checked else ""))
    scores = manifest["scores"]
    low, high = scores["heterogeneous"]["interval"]
    taught = "the pictures of its index" if scores["index_is_learned"] else ""
    taught = "it" if scores["learned_from_split"] else taught
    print(
        f"against the {'' if scores['index'] == 'heterogeneous' else scores['index'] + ' '}index of "
        f"{manifest['gallery']['name']}, "
        f"search split{taught and f' (it learned from {taught})'}, {scores['queries']} queries: "
        f"{scores['metric']} {scores['heterogeneous']['score']:.4f} [{low:.4f}, {high:.4f}], "
        f"{_points(scores['above_paragon'])} to the paragon"
    )
    if small := manifest.get("int8"):
        kept = len(small["kept_float32"])
        print(
            f"int8: {_points(small['against_float32'])} to float32"
            + (f", {kept} of {small['layers']} layers in float32" if kept else "")
        )
    if small := manifest.get("weights8"):
        print(f"weights in int8: {_points(small['against_float32'])} to float32")


def print_verified(result: dict[str, Any]) -> None:
    """What was checked of a bundle."""
    for name, checked in result["files"].items():
        print(f"{name}: {_compared(checked)}")
    if scores := result["scores"]:
        for name in result["files"]:
            if name in scores:
                low, high = scores[name]["interval"]
                line = f"{name}: {scores['metric']} {scores[name]['score']:.4f} [{low:.4f}, {high:.4f}]"
                against = scores[name].get("against_float32")
                print(line + (f", {_points(against)} to float32" if against else f", {scores['queries']} queries"))
        if scores["learned_from_split"]:
            print("these are scores on pictures that the encoder learned from, which flatter it")
        elif scores["index_is_learned"]:
            print("these are scores in an index of pictures that the encoder learned from")
        if gallery := scores.get("gallery.onnx"):
            print(f"gallery.onnx: mean cosine {gallery['cosine_with_index']['mean']:.4f} with what the index stores")
    else:
        print("scores were not checked; add --index FILE")


def _compared(checked: dict[str, Any]) -> str:
    batches = ", ".join(map(str, checked["batches"]))
    return (
        f"differs from {checked['compared_with']} by at most {checked['max_abs_difference']:.1e} at batches {batches}, "
        f"unit norm to {checked['unit_norm_error']:.1e}"
    )


def _points(paired: dict[str, Any]) -> str:
    low, high = paired["interval"]
    return f"{paired['points']:+.2f} points [{low:+.2f}, {high:+.2f}]"
