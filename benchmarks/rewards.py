"""What is worth more: searching for compatibility, or training for it?

    python benchmarks/rewards.py RECIPE [--budget-mflops F] [--seeds 3] [--split test] [--data DIR] [--folder DIR]
        [--set KEY=VALUE ...] [--out FILE]

For each seed one gallery model and one supernet; the controller is then told R1 = M(q,q), R2 = M(q,g) or R3, their
product, and the architecture best by its own reward is finished. Beside them the uniformly scaled network of the cost
of R2's (weights compatible, architecture not searched) and R2's trained by labels alone (architecture searched, weights
not compatible). Heterogeneous scores; a difference is paired over queries, averaged over the seeds first. On the search
split the architectures have an advantage over the scaled one: they were chosen there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from command import as_command
from found import per_query, told, uniformly_scaled

from cmpnas.data import load_splits
from cmpnas.pipeline.evaluate import open_split
from cmpnas.pipeline.search import search
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import Finish
from cmpnas.recipe import Recipe, load_recipe
from cmpnas.retrieval.compare import Comparison
from cmpnas.run import RunFolder
from cmpnas.search.records import RecordLog
from cmpnas.space import Arch

_REWARDS = ("r2", "r1", "r3")  # the first one trains what the others reuse


def main(
    recipe: str,
    budget_mflops: float | None = None,
    seeds: int = 3,
    split: str = "test",
    data: str | None = None,
    folder: Path = Path("runs/rewards"),
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    out: Path | None = None,
) -> None:
    scores: dict[str, list[np.ndarray]] = {}
    costs: dict[str, list[float]] = {}
    for seed in range(seeds):
        found: dict[str, Arch] = {}
        for reward in _REWARDS:
            flags = {"seed": seed, "search.reward": reward, "search.budget_mflops": budget_mflops}
            flags["search.homogeneous"] = "all"
            resolved = load_recipe(recipe, overrides or (), flags)
            stages = searched(resolved, folder / f"{seed}-{reward}", folder / f"{seed}-r2", data)
            found[reward] = best(stages, reward)
        # Everything is finished in the run of one reward: weights and seeds are then the same for all.
        stages = Stages.of_run(folder / f"{seed}-r2", data, print)
        usual = dict(stages.recipe.query.loss)
        scaled = uniformly_scaled(stages.space, stages.space.cost(found["r2"]).mflops)
        arms = {f"architecture by {reward}": Finish(arch, "supernet", usual, seed) for reward, arch in found.items()}
        arms["scaled uniformly"] = Finish(scaled, "supernet", usual, seed)
        # From scratch: the supernet's weights are compatible already.
        arms["by r2, weights not compatible"] = Finish(found["r2"], "scratch", {"vanilla": 1.0}, seed)
        task = open_split(stages, split)
        g_gallery = stages.gallery.embed(task.gallery)
        for name, how in arms.items():
            scores.setdefault(name, []).append(per_query(stages, how, task, g_gallery))
            costs.setdefault(name, []).append(stages.space.cost(how.arch).mflops)
    metric = stages.recipe.search.metric
    print(f"{stages.recipe.name}, {split} split, {metric}, {seeds} seeds")
    rows = []
    base = np.stack(scores["architecture by r2"])
    for name, values in scores.items():
        table = np.stack(values)
        gain = Comparison(base.mean(0) - table.mean(0))
        low, high = gain.interval
        won = f"r2's minus it {100 * gain.difference:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
        spread = f"seeds {told(table.mean(1))}, MFLOPs {told(np.array(costs[name]))}"
        print(f"  {name:<30} M(q,g) {table.mean():.4f}, {spread}; {won}")
        rows.append(
            {"system": name, "score": table.mean(), "by_seed": table.mean(1).tolist(), "mflops": costs[name],
             "r2 minus it": gain.difference, "interval": [low, high]}
        )  # fmt: skip
    if out:
        content = {"recipe": stages.recipe.name, "split": split, "metric": metric, "seeds": seeds, "rows": rows}
        out.write_text(json.dumps(content, indent=1) + "\n")


def searched(recipe: Recipe, path: Path, trained: Path, data: str | None) -> Stages:
    """A finished search of ``recipe`` in ``path``, on the gallery and supernet of ``trained`` if they are there."""
    if path != trained and not path.exists():
        RunFolder.begin(path, recipe, resume=False, data=load_splits(recipe.data, data).fingerprint)
        shutil.copytree(trained / "gallery", path / "gallery")
        shutil.copy(trained / "supernet.pt", path)
    search(recipe, path, data=data, resume=path.exists())
    return Stages.of_run(path, data, print)


def best(stages: Stages, reward: str) -> Arch:
    """The architecture of the highest reward among all that were evaluated."""
    records = RecordLog(stages.run.records, stages.space).read()
    name = stages.recipe.gallery.name
    return max(records, key=lambda record: record.reward(name, reward)).arch  # type: ignore[arg-type]


if __name__ == "__main__":
    as_command(main)
