"""Does the supernet order architectures as training each of them alone does?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.cost import Budget
from cmpnas.errors import RunError
from cmpnas.files import append_line, drop_partial_line, hash_of, whole_lines, write_json
from cmpnas.models.network import Network
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.pipeline.train import Finish, learn
from cmpnas.progress import track
from cmpnas.report.plot_rank import plot_rank
from cmpnas.run import RunFolder
from cmpnas.search.rank import certificate
from cmpnas.search.records import Record
from cmpnas.space import Arch, SearchSpace

_LEAST = 3
_AT_ONCE = 256
_SURE = 20  # draws for each architecture found, none of them new: another would show but for a chance of e^-20


def rank(path: Path, architectures: int = 30, *, data: str | None = None, say: Say = print) -> dict[str, Any]:
    """Score architectures with the supernet's weights and trained alone, and compare the two orders.

    They are drawn uniformly from those within the budget, all distinct, the same ones every time. Continues from
    ``rank.jsonl``, whose architectures all count, and from a checkpoint.

    Returns:
        The content of ``rank.json``: see `cmpnas.search.rank.certificate`; and a ``verdict``.

    Raises:
        CmpnasError: there is no such run, it has no supernet, there are fewer than three architectures, or
            ``rank.jsonl`` is of other settings or damaged.
    """
    if architectures < _LEAST:
        raise RunError(f"{architectures} architectures have no order worth a certificate; give at least {_LEAST}.")
    run = RunFolder.open(path)
    if not run.supernet.exists():
        raise RunError(f"{path} has no supernet.pt; finish the search with: {run.resume_command()}")
    stages = Stages.of_run(path, data, say)
    with run.locked():
        lines = _rank(stages, architectures)
        recipe = run.recipe
        result: dict[str, Any] = {
            "recipe": recipe.name,
            "space": stages.space.name,
            "budget": recipe.search.budget.to_json(),
            "metric": recipe.search.metric,
            "split": "search",
        }
        supernet, alone = (np.array([line[side]["heterogeneous"] for line in lines]) for side in ("supernet", "alone"))
        result |= certificate(supernet, alone, np.array([line["query"]["mflops"] for line in lines]))
        result["verdict"] = _verdict(result)
        write_json(run.path / "rank.json", result)
        plot_rank(result, lines, run.path / "rank.png")
    return result


def _rank(stages: Stages, wanted: int) -> list[dict[str, Any]]:
    """Every line of ``rank.jsonl``, those of an earlier start as they are."""
    settings, run = stages.recipe.search, stages.run
    log = run.path / "rank.jsonl"
    plan = stages.recipe.query.model_dump(mode="json", include={"train"})
    key = hash_of(stages.supernet_key, plan, settings.metric, settings.calibration_images)
    wanted = max(wanted, len(whole_lines(log)))
    archs = _distinct(stages.space, settings.budget, _seed("rank", stages.recipe.seed), wanted)
    if len(archs) < wanted:
        stages.say(f"rank: only {len(archs)} architectures of {stages.space.name!r} fit the budget; all are taken")
    if len(archs) < _LEAST:
        raise RunError(f"fewer than {_LEAST} architectures of space {stages.space.name!r} fit the budget; raise it.")
    lines = _read(log, key, archs)
    drop_partial_line(log)
    checkpoints = [run.path / f"rank.{hash_of(key, arch.id)}.checkpoint.pt" for arch in archs]
    for finished in checkpoints[: len(lines)]:
        finished.unlink(missing_ok=True)  # a crash may come between a line and the end of its checkpoint
    name = stages.recipe.gallery.name
    evaluator = stages.evaluator()
    stages.say(f"rank: {len(archs) - len(lines)} of {len(archs)} architectures to train alone")
    with run.timed("rank"):
        for n in track(range(len(lines), len(archs)), "rank", total=len(archs), done=len(lines)):
            shared = evaluator(n, archs[n])
            alone = evaluator.judge(n, archs[n], _train_alone(stages, archs[n], checkpoints[n]))
            lines.append(_line(key, name, shared, alone))
            append_line(log, lines[-1])
            checkpoints[n].unlink()
    return lines


def _train_alone(stages: Stages, arch: Arch, saved: Path) -> Network:
    """A network of ``arch`` trained from fresh weights; order and augmentation of pictures are the same for all."""
    recipe = stages.recipe
    return learn(stages, Finish(arch, "scratch", recipe.query.loss, _seed("alone", recipe.seed)), stages.lessons, saved)


def _distinct(space: SearchSpace, budget: Budget, seed: int, wanted: int) -> list[Arch]:
    """The first ``wanted`` architectures within ``budget`` of an endless uniform draw, repeats left out.

    Fewer if there are no more: then the draw has gone on in vain for 20 times as long as there are architectures.
    """
    found: dict[Arch, None] = {}
    block, fruitless = 0, 0
    while len(found) < wanted and fruitless <= _SURE * len(found):
        drawn = space.sample_many(
            _AT_ONCE,
            seed + block,
            max_mflops=budget.mflops,
            max_params_m=budget.params_m,
            max_latency_ms=budget.latency_ms,
        )
        before = len(found)
        found |= {drawn[n]: None for n in range(_AT_ONCE)}
        fruitless = 0 if len(found) > before else fruitless + _AT_ONCE
        block += 1
    return list(found)[:wanted]


def _seed(what: str, seed: int) -> int:
    """A seed of its own for each use of a recipe's."""
    return int(hash_of(what, seed)[:7], 16)


def _line(key: str, gallery: str, shared: Record, alone: Record) -> dict[str, Any]:
    line = shared.to_json()
    sides = {"supernet": line, "alone": alone.to_json()}
    return {"n": shared.n, "key": key, "query": line["query"]} | {
        side: content["galleries"][gallery] for side, content in sides.items()
    }


def _read(path: Path, key: str, archs: list[Arch]) -> list[dict[str, Any]]:
    """Every whole line, checked to be of these settings and architectures."""
    lines = []
    for n, text in enumerate(whole_lines(path)):
        try:
            line = json.loads(text)
            found = line["key"], (line["n"], line["query"]["id"])
            numbers = [line["query"]["mflops"]]
            for side in ("supernet", "alone"):
                low, high = line[side]["interval"]
                numbers += [low, line[side]["heterogeneous"], high]
            if not np.isfinite(sum(numbers)):
                raise ValueError("a score is not a number")
        except (ValueError, KeyError, TypeError) as fault:
            raise RunError(f"{path}, line {n + 1} is not of a ranking ({fault}); remove it.") from None
        if found[0] != key:
            raise RunError(f"{path} was made with other settings (line {n + 1}); move it away and repeat the command.")
        if n >= len(archs) or found[1] != (n, archs[n].id):
            raise RunError(f"{path}, line {n + 1} is out of order or of another architecture; remove it.")
        lines.append(line)
    return lines


def _verdict(result: dict[str, Any]) -> str:
    """One line: does the supernet beat counting multiply-adds?"""
    tau, gain = result["kendall"], result["gain"]
    if tau["value"] is None:
        return "no verdict: all scores of one side are equal"
    if gain["value"] is None:
        return "no verdict: all architectures cost the same, so that their cost ranks nothing"
    low, high = gain["interval"]
    against = f"tau {tau['value']:.3f} against {result['cost']['kendall']['value']:.3f}"
    difference = f"difference {gain['value']:+.3f} [{low:+.3f}, {high:+.3f}]"
    if low > 0:
        finding = "the supernet ranks better than counting MFLOPs"
    elif high < 0:
        finding = "the supernet ranks WORSE than counting MFLOPs"
    else:
        finding = "a tie: the supernet is not shown to rank better than counting MFLOPs"
    return f"{finding}: {against}, {difference}"
