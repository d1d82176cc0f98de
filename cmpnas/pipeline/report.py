"""One finished run as one HTML page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import CmpnasError, RunError
from cmpnas.files import write
from cmpnas.gallery.settings import SingleSettings
from cmpnas.pipeline.results import evaluations, query_space, ranking, searched
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.pipeline.train import Finish, load_finished
from cmpnas.report.examples import choose
from cmpnas.report.page import Examples, Page, render
from cmpnas.report.results import Searched
from cmpnas.retrieval.nearest import nearest
from cmpnas.run import RunFolder
from cmpnas.search.evaluator import calibrate_on
from cmpnas.search.front import pick
from cmpnas.train.embed import embed

_QUERIES = 1000  # that examples are chosen from
_SHOWN = 5  # retrieved pictures a query


def report(
    path: Path, out: Path | None = None, which: str | None = None, *, data: str | None = None, say: Say = print
) -> dict[str, Any]:
    """Write the page of a finished run. Nothing is trained, and the test split stays shut.

    Examples need the data and the run's weights; without them the page says why it has none.

    Args:
        out: an .html file; by default ``report.html`` in the run's folder.
        which: the pair to compare and show; by default a trained one, else the knee.

    Returns:
        ``{"out", "bytes", "pick", "examples"}``; ``examples`` is None or why there are none.

    Raises:
        CmpnasError: there is no such run or pick, a file is damaged, or ``out`` cannot be written.
    """
    run = RunFolder.open(path)
    out = out or path / "report.html"
    if out.suffix not in (".html", ".htm"):
        raise CmpnasError(f"cannot write a report to {out.name!r}; use a name that ends in .html.")
    if not out.parent.is_dir():
        raise CmpnasError(f"folder {out.parent} does not exist; make it or write elsewhere.")
    found = _comparable(searched(run), say)
    if not found.front["pairs"]:
        raise RunError(f"{path} has no pair that fits its budget; repeat the search with: {run.resume_command()}")
    name = which or _trained(run, found.front) or "knee"
    chosen = pick(found.front, name)
    examples = _examples(run, chosen, data, say)
    page = Page(
        run=found,
        space=query_space(run),
        pick=chosen,
        pick_name="trained pick" if name == chosen["query"]["id"] and _is_trained(run, chosen) else f"pick {name}",
        examples=examples,
        manifest=run.manifest(),
        recipe=run.recipe.to_yaml(),
        evaluations=evaluations(run),
        ranking=ranking(run)[0]["verdict"] if (path / "rank.json").exists() else "",
        seconds=run.seconds(),
    )
    html = render(page)
    try:
        write(out, html)
    except OSError as fault:
        raise CmpnasError(f"cannot write {out}: {fault.strerror}; name another --out.") from None
    missing = examples.missing or None
    return {"out": str(out), "bytes": len(html.encode()), "pick": chosen["query"]["id"], "examples": missing}


def _comparable(found: Searched, say: Say) -> Searched:
    """Without pairs of options that came so late that some architectures have no score against them."""
    pairs = [pair for pair in found.front["pairs"] if pair["gallery"]["name"] in found.galleries]
    if left := {pair["gallery"]["name"]: None for pair in found.front["pairs"] if pair not in pairs}:
        say(f"report: without {', '.join(left)}, against which some architectures were not scored")
    return replace(found, front=found.front | {"pairs": pairs})


def _is_trained(run: RunFolder, pair: dict[str, Any]) -> bool:
    """Whether the query network of a pair is finished as the recipe has it."""
    return (run.trained(pair["query"]["id"]) / "network.pt").exists()


def _trained(run: RunFolder, front: dict[str, Any]) -> str | None:
    """The id of the best pair that is finished, if one is."""
    done = [pair for pair in front["pairs"] if _is_trained(run, pair)]
    best = max(done, key=lambda pair: pair["scores"]["heterogeneous"], default=None)
    return best and best["query"]["id"]


def _examples(run: RunFolder, pair: dict[str, Any], data: str | None, say: Say) -> Examples:
    """What the paragon and a pair retrieve on the search split, or why that cannot be shown."""
    try:
        return _retrieve(run, pair, data, say)
    except CmpnasError as fault:
        say(f"report: no examples: {fault}")
        return Examples(missing=f"There are none: {fault}")


def _retrieve(run: RunFolder, pair: dict[str, Any], data: str | None, say: Say) -> Examples:
    needed = [run.supernet, run.gallery / "key.json"]
    if isinstance(run.recipe.gallery, SingleSettings):
        needed.append(run.gallery / "model.pt")
    for file in needed:
        if not file.exists():  # else it would be trained now
            raise RunError(f"{file} is missing; make it with: {run.resume_command()}")
    stages = Stages.of_run(run.path, data, say)
    arch = stages.space.from_json(pair["query"]["arch"])
    if _is_trained(run, pair):
        network, weights = load_finished(stages, Finish.by(run.recipe, arch)), "trained"
        if stages.splits.search_is_learned:
            weights += " on these pictures too"
    else:
        network, weights = stages.supernet.carve(arch), "the supernet's weights"
        calibrate_on(network, stages.splits.pool, run.recipe.search.calibration_images)
    task, known = stages.splits.search, stages.embedded
    rows = np.unique(np.linspace(0, len(task.query) - 1, min(_QUERIES, len(task.query))).astype(np.int64))
    anchor, gallery = run.recipe.gallery.name, pair["gallery"]["name"]
    against = "" if gallery == anchor else f", but in the index of {anchor}"  # whose vectors are known of every run
    said = {
        "paragon M(g, g)": known.query[rows],
        f"pair M(q, g), {weights}{against}": embed(network, task.query, rows=rows),
    }
    own = None if task.own_sources is None else (task.own_sources[0][rows], task.own_sources[1])
    found = {name: nearest(query, known.gallery, _SHOWN, own) for name, query in said.items()}
    groups, about = choose(task, rows, found)
    return Examples(groups, about)
