"""Finished runs as pictures, by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cmpnas.errors import CmpnasError, unknown
from cmpnas.pipeline.results import query_space, ranking, searched
from cmpnas.report.anatomy import anatomy
from cmpnas.report.plot import plot_front, plot_progress
from cmpnas.report.plot_arch import plot_arch
from cmpnas.report.plot_rank import plot_rank
from cmpnas.report.references import read_references
from cmpnas.report.results import same_metric
from cmpnas.run import RunFolder
from cmpnas.search.front import pick as choose


def plot(paths: Sequence[Path], out: Path | None = None, kind: str = "front", **options: Any) -> dict[str, Any]:
    """Draw one picture of one or several finished runs.

    Args:
        out: PNG, SVG or PDF by its suffix; by default ``KIND.png`` in the run's folder.
        kind: one of `KINDS`.
        options: what a kind takes, None for its default. Of ``front``: ``cost``, ``references`` (a file); of
            ``arch``: ``pick``.

    Returns:
        ``{"out", "kind"}`` and what is in the picture.

    Raises:
        CmpnasError: there is no such kind, run or pick, an option is of another kind, or the file cannot be written.
    """
    if kind not in KINDS:
        raise CmpnasError(unknown("kind of picture", kind, KINDS))
    draw, allowed, several = KINDS[kind]
    given = {name: value for name, value in options.items() if value is not None}
    if foreign := [name for name in given if name not in allowed]:
        there = ", ".join(f"--{name}" for name in allowed) or "no option"
        raise CmpnasError(f"--kind {kind} takes {there} of its own, not --{foreign[0]}.")
    if len(paths) > 1 and not several:
        raise CmpnasError(f"--kind {kind} draws one run; {len(paths)} came.")
    if len(paths) > 1 and out is None:
        raise CmpnasError(f"a picture of {len(paths)} runs belongs to none of them; name it with --out FILE.")
    runs = [RunFolder.open(path) for path in paths]
    path = out or paths[0] / f"{kind}.png"
    return {"out": str(path), "kind": kind, **draw(runs, path, **given)}


def _front(
    runs: Sequence[RunFolder], out: Path, cost: str | None = None, references: Path | None = None
) -> dict[str, Any]:
    found = [searched(run) for run in runs]
    points = read_references(references, same_metric(found)) if references else ()
    return plot_front(found, out, cost=cost, references=points)


def _progress(runs: Sequence[RunFolder], out: Path) -> dict[str, Any]:
    return plot_progress([searched(run) for run in runs], out)


def _arch(runs: Sequence[RunFolder], out: Path, pick: str = "knee") -> dict[str, Any]:
    run = runs[0]
    chosen = choose(run.read_front(), pick)["query"]
    space = query_space(run)
    arch = space.from_json(chosen["arch"])
    plot_arch(anatomy(space, arch), f"{run.path.name}, pick {pick}: {arch.id}", out)
    return {"id": arch.id, "mflops": chosen["mflops"], "params_m": chosen["params_m"]}


def _rank(runs: Sequence[RunFolder], out: Path) -> dict[str, Any]:
    result, lines = ranking(runs[0])
    plot_rank(result, lines, out)
    return {"kendall": result["kendall"], "architectures": len(lines)}


#: By name: how it is drawn, the options of its own, whether it may show several runs.
KINDS: dict[str, tuple[Callable[..., dict[str, Any]], tuple[str, ...], bool]] = {
    "front": (_front, ("cost", "references"), True),
    "progress": (_progress, (), True),
    "arch": (_arch, ("pick",), False),
    "rank": (_rank, (), False),
}
