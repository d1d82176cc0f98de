"""Reading a finished search back, for pictures and pages."""

from __future__ import annotations

import json
from typing import Any

from cmpnas.errors import RunError
from cmpnas.files import read_json, read_npy, whole_lines
from cmpnas.report.references import Point
from cmpnas.report.results import Searched
from cmpnas.run import RunFolder
from cmpnas.search.records import RecordLog, finished
from cmpnas.space import SearchSpace

_TABLE = {"split", "queries", "excluded_queries", "gallery_items", "chance", "metrics", "systems", "verdicts"}
_SYSTEM = {"kind", "query", "gallery", "name", "mflops", "scores", "intervals"}
_VERDICT = {"kind", "query", "gallery", "id", "text"}


def query_space(run: RunFolder) -> SearchSpace:
    """The space that a run searched, as wide as its gallery's embeddings; no data are read.

    Raises:
        RunError: the embeddings cannot be read.
    """
    advice = f"repeat the search with: {run.resume_command()}"
    return untimed_space(run, read_npy(run.gallery / "pool.npy", advice).shape[1])


def untimed_space(run: RunFolder, embedding_dim: int | None = None) -> SearchSpace:
    """The space without its latency table, which may be elsewhere by now: the records hold what it said."""
    recipe = run.recipe
    search = recipe.search.model_copy(update={"latency_table": None})
    return recipe.model_copy(update={"search": search}).space(embedding_dim)


def searched(run: RunFolder) -> Searched:
    """What a finished search found and evaluated to the end, and what was trained since, if `evaluate` has scored it.

    Raises:
        RunError: the search has not ended, or a file is damaged.
    """
    front = run.read_front()
    records = finished(RecordLog(run.records, untimed_space(run)).read())
    return Searched(run.path.name, front, records, _trained(run, front["metric"]))


def ranking(run: RunFolder) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The certificate of `cmpnas.pipeline.rank.rank` and the architectures behind it.

    Raises:
        RunError: there is none, or a file is damaged.
    """
    if not (run.path / "rank.json").exists():
        raise RunError(f"{run.path} has no rank.json; make it with: cmpnas rank {run.path}")
    result, lines = read_json(run.path / "rank.json"), whole_lines(run.path / "rank.jsonl")
    try:
        return result, [json.loads(line) for line in lines[: result["n"]]]
    except (ValueError, KeyError, TypeError) as fault:
        raise RunError(f"the ranking of {run.path} is damaged ({fault}); repeat: cmpnas rank {run.path}") from None


def evaluations(run: RunFolder) -> list[dict[str, Any]]:
    """The tables that `cmpnas.pipeline.evaluate.evaluate` has left, that of the test split first.

    Raises:
        RunError: a file is damaged.
    """
    found = []
    for split in ("test", "search"):
        path = run.path / f"evaluation.{split}.json"
        if path.exists():
            found.append(read_json(path))
            if not _is_table(found[-1]):
                raise RunError(f"{path} is no table of cmpnas evaluate; delete it and evaluate again.")
    return found


def _is_table(content: Any) -> bool:
    if not isinstance(content, dict) or not content.keys() >= _TABLE:
        return False
    known = (("systems", _SYSTEM), ("verdicts", _VERDICT))
    return all(entry.keys() >= keys for part, keys in known for entry in content[part])


def _trained(run: RunFolder, metric: str) -> tuple[Point, ...]:
    """M(q, g) of the finished networks, where they were evaluated on the search split."""
    return tuple(
        Point(
            name=" ".join(system["name"].split()[1:]),
            score=system["scores"][metric],
            mflops=system["mflops"],
            interval=system["intervals"][metric],
        )
        for table in evaluations(run)
        if table["split"] == "search"
        for system in table["systems"]
        if system["kind"] == "heterogeneous"
    )
