"""Is the found architecture better than others of its cost, trained alike?

    python benchmarks/found.py RUN [--pick 20x] [--seeds 5] [--start scratch] [--split test] [--data DIR] [--out FILE]

Three networks of equal multiply-adds at most, each trained with every seed as the recipe finishes its picks: the found
one; the same space scaled uniformly (one place in their lists for all widths, one for all depths, ...); a random one of
that cost, another for each seed. Heterogeneous scores; a difference is paired over queries, each query's scores
averaged over the seeds first, and the spread over seeds stands beside it. On the search split the found one has an
advantage: it was chosen there. Continues where it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import typer
from command import as_command

from cmpnas.cost import Budget
from cmpnas.data import Protocol
from cmpnas.errors import RunError
from cmpnas.pipeline.evaluate import open_split
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import Finish, Start, finish
from cmpnas.retrieval.compare import Comparison
from cmpnas.search.evaluator import score_pair
from cmpnas.search.front import pick
from cmpnas.space import Arch, SearchSpace
from cmpnas.train.embed import embed

_PLACES = np.linspace(0, 1, 401)
_DRAWN = 2000  # random architectures, of which the nearest in cost are taken


def main(
    run: Path,
    pick_: str = typer.Option("best", "--pick"),
    seeds: int = 5,
    start: str = "scratch",
    split: str = "test",
    data: str | None = None,
    out: Path | None = None,
) -> None:
    stages = Stages.of_run(run, data, print)
    arms = arms_of(stages.space, stages.space.from_json(pick(stages.run.read_front(), pick_)["query"]["arch"]), seeds)
    task = open_split(stages, split)
    known = task, stages.gallery.embed(task.gallery)
    results = {name: measure(stages, archs, start, *known, seeds) for name, archs in arms.items()}  # type: ignore[arg-type]
    metric = stages.recipe.search.metric
    print(f"{stages.recipe.name}, {split} split, {metric}, {seeds} seeds, {start}")
    rows = []
    for name, result in results.items():
        low, high = result.mflops
        print(f"  {name:<8} {low:.3f} to {high:.3f} MFLOPs  M(q,g) {result.mean:.4f}, seeds {told(result.by_seed)}")
        rows.append({"system": name, "mflops": [low, high], "score": result.mean, "by_seed": result.by_seed.tolist()})
    for name in ("scaled", "random"):
        gain = Comparison(results["found"].per_query - results[name].per_query)
        paired = results["found"].by_seed - results[name].by_seed
        print(
            f"  found - {name}: {100 * gain.difference:+.2f} points [{100 * gain.interval[0]:+.2f}, "
            f"{100 * gain.interval[1]:+.2f}] over queries, by seed {told(100 * paired)}"
        )
        rows.append(
            {"found minus": name, "difference": gain.difference, "interval": gain.interval, "by_seed": paired.tolist()}
        )
    if out:
        out.write_text(
            json.dumps({"recipe": stages.recipe.name, "split": split, "metric": metric, "rows": rows}, indent=1)
        )


@dataclass(frozen=True)
class Result:
    """Scores of one arm: per-query float64 ``(Q,)`` averaged over seeds, and means by seed."""

    per_query: np.ndarray
    by_seed: np.ndarray
    mflops: tuple[float, float]

    @property
    def mean(self) -> float:
        return float(self.by_seed.mean())


def arms_of(space: SearchSpace, found: Arch, seeds: int) -> dict[str, Callable[[int], Arch]]:
    """The architecture of each arm for a seed."""
    limit = space.cost(found).mflops
    drawn = space.sample_many(_DRAWN, 1, max_mflops=limit)
    dearest = dict.fromkeys(drawn[int(i)] for i in np.argsort(-drawn.macs, kind="stable")[: 20 * seeds])
    near = [arch for arch in dearest if arch != found][:seeds]
    if len(near) < seeds:
        raise typer.BadParameter(f"only {len(near)} others cost no more than the pick; take a dearer --pick.")
    scaled = uniformly_scaled(space, limit)
    return {"found": lambda seed: found, "scaled": lambda seed: scaled, "random": lambda seed: near[seed]}


def uniformly_scaled(space: SearchSpace, limit: float) -> Arch:
    """The dearest network within ``limit`` MFLOPs in which decisions of a kind (all widths, all kernels, ...) stand at
    the same place in their lists, wherever in the network they are."""
    kinds = {decision: decision.rsplit(".", 1)[-1] for decision in space.decisions}
    of_kind: dict[str, set[int]] = {}
    for decision, values in space.decisions.items():
        of_kind.setdefault(kinds[decision], set()).add(len(values))
    steps = {
        kind: list({tuple(round(place * (n - 1)) for n in sorted(lengths)): place for place in _PLACES}.values())
        for kind, lengths in of_kind.items()
    }  # places that differ in what they choose
    best, most = None, -1.0
    for places in product(*steps.values()):
        of = dict(zip(steps, places, strict=True))
        choices = {
            decision: values[round(of[kinds[decision]] * (len(values) - 1))]
            for decision, values in space.decisions.items()
        }
        arch = space.nearest(choices, Budget())
        if most < (mflops := space.cost(arch).mflops) <= limit:
            best, most = arch, mflops
    if best is None:
        raise RunError(f"no uniformly scaled network of {space.name!r} is within {limit:g} MFLOPs.")
    return best


def measure(
    stages: Stages, arch_of: Callable[[int], Arch], start: Start, task: Protocol, g_gallery: np.ndarray, seeds: int
) -> Result:
    scores, costs = [], []
    for seed in range(seeds):
        how = Finish(arch_of(seed), start, dict(stages.recipe.query.loss), seed)
        scores.append(per_query(stages, how, task, g_gallery))
        costs.append(stages.space.cost(how.arch).mflops)
    table = np.stack(scores)
    return Result(table.mean(0), table.mean(1), (min(costs), max(costs)))


def per_query(stages: Stages, how: Finish, task: Protocol, g_gallery: np.ndarray) -> np.ndarray:
    """Heterogeneous scores of ``task`` by a network finished so, in the recipe's metric: float64 ``(Q,)``."""
    metric = stages.recipe.search.metric
    with stages.run.locked():
        network = finish(stages, how)
    query = embed(network, task.query)  # type: ignore[arg-type]
    return score_pair(query, g_gallery, task, [metric]).per_query(metric)


def told(values: np.ndarray) -> str:
    return " ".join(f"{value:.4g}" for value in values)


if __name__ == "__main__":
    as_command(main)
