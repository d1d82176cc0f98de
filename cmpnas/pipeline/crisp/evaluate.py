"""The final table of a text run: coarse alone, fine alone, both, cascades; and whether the plan held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.files import write_json
from cmpnas.pipeline.crisp.fine import fine_table
from cmpnas.pipeline.crisp.finish import Searcher, picked, search_hits, weights_key
from cmpnas.pipeline.crisp.search import QueryCosts, relevant
from cmpnas.pipeline.crisp.stages import TextStages
from cmpnas.pipeline.crisp.times import Work, ask, asked, milliseconds, one_thread
from cmpnas.pipeline.stages import Say
from cmpnas.retrieval import Scores, evaluate_scores
from cmpnas.retrieval.cascade import cascade_table, mixed
from cmpnas.retrieval.compare import compare
from cmpnas.retrieval.planner import plan

KS = (5, 10, 20, 50, 100)
_METRICS = ["hit@1", "hit@5", "hit@10"]
_SCANNED = 5  # queries that the whole scan is timed on


def evaluate_text(path: Path, split: str = "test", *, data: str | None = None, say: Say = print) -> dict[str, Any]:
    """Score and time the finished encoder, the fine model and their cascades; keep the table in the run folder.

    The plan is made for this gallery from measurements on the search split, taken now, and checked here.

    Raises:
        CmpnasError: no encoder is finished, or the data are not those of the run.
    """
    stages = TextStages.of_run(path, data, say)
    with stages.run.locked():
        arch, network, pool, _ = picked(stages)
        settings, before = stages.recipe.search, Searcher.over(stages, "search", arch, network, pool)
        parts = before.parts(stages.pairs("search").captions)
        with one_thread():
            times = parts.times(milliseconds(parts.works()))
        measured, _ = search_hits(stages, before)
        stages.run.note_opened(split)
        pairs, searcher = stages.pairs(split), Searcher.over(stages, split, arch, network, pool)
        n = len(pairs)
        costs, own = QueryCosts.of(stages, n), stages.space.cost(arch).macs
        planned = plan(
            measured, times, n, within=settings.within, max_milliseconds=settings.budget_latency_ms,
            most=costs.most(own, stages.recipe), right=float(relevant(pairs).sum(1).mean()),
        )  # fmt: skip
        coarse, fine = searcher.table(pairs.captions), fine_table(stages, split)
        scores = {"coarse": _scores(coarse, pairs), "fine": _scores(fine, pairs)}
        spent = {"coarse": own + costs.index, "fine": costs.scan}
        if planned.weight:
            scores["both"] = _scores(mixed(coarse, fine, weight=planned.weight), pairs)
            spent["both"] = costs.total(own, n)
        for k in sorted({*(k for k in KS if k <= n), planned.k}):
            scores[f"cascade {k}"] = _scores(cascade_table(coarse, fine, k, weight=planned.weight), pairs)
            spent[f"cascade {k}"] = costs.total(own, k)
        say(f"evaluate: timing {len(scores)} systems, one query and one thread at a time")
        with one_thread():
            taken = milliseconds(parts.works() | _works(searcher, pairs.captions, scores, planned.weight))
        # A machine's pace changes: what the plan expects is measured in turns with what it is held against.
        times = parts.times(taken)
        planned = replace(planned, milliseconds=times.cascade(n, planned.k), scan_milliseconds=times.scan(n))
    vector, region = 4 * stages.recipe.coarse.dim, 2 * int(np.prod(searcher.fine.stored.shape[1:]))
    stored = {"coarse": vector, "fine": region}
    systems = [
        {
            "name": name,
            "mflops": spent[name] / 1e6,
            "scores": {metric: score[metric] for metric in _METRICS},
            "intervals": {metric: list(score.interval(metric)) for metric in _METRICS},
            "medr": score.median_rank(f"mrr@{n}"),
            "milliseconds": taken[name],
            "bytes": stored.get(name, vector + region),
        }
        for name, score in scores.items()
    ]
    chosen = f"cascade {planned.k}"
    result = {
        "task": "text", "recipe": stages.recipe.name, "split": split, "id": arch.id, "key": weights_key(stages, arch),
        "queries": len(pairs.captions),
        "gallery_items": n, "systems": systems,
        "fine_over_coarse": _paired(scores["fine"], scores["coarse"]),
        "cascade_over_fine": _paired(scores[chosen], scores["fine"]),
        "speedup": taken["fine"] / taken[chosen],
        "plan": planned.to_json() | {"measured_hit": scores[chosen]["hit@1"], "measured_milliseconds": taken[chosen]},
        "times": times.to_json(),
    }  # fmt: skip
    write_json(stages.run.path / f"evaluation.{split}.json", result)
    return result


def _scores(table: np.ndarray, pairs) -> Scores:  # type: ignore[no-untyped-def]
    return evaluate_scores(table, pairs.caption_labels, pairs.labels, [*_METRICS, f"mrr@{table.shape[1]}"])


def _paired(first: Scores, second: Scores) -> dict[str, Any]:
    """First minus second in hit@1, with its paired interval."""
    found = compare(first, second, "hit@1")
    return {"difference": found.difference, "interval": list(found.interval), "p_value": found.p_value}


def _works(searcher: Searcher, captions: list[str], names: Iterable[str], weight: float) -> dict[str, Work]:
    """One query to each system, text encoding included; the whole scan on fewer queries."""
    texts = asked(captions)
    works: dict[str, Work] = {}
    for name in names:
        if name == "coarse":
            works[name] = lambda text: searcher.index.search(searcher.encoder([text]), 10), texts
        elif name == "fine":
            works[name] = lambda text: searcher.fine.scan([text]), asked(captions, _SCANNED)
        elif name == "both":
            works[name] = partial(ask, searcher.cascade(len(searcher.vectors), weight)), asked(captions, _SCANNED)
        else:
            works[name] = partial(ask, searcher.cascade(int(name.split()[1]), weight)), texts
    return works
