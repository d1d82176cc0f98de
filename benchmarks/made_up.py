"""A run folder with made-up scores, for pictures and pages of many candidates: nothing is trained.

python benchmarks/made_up.py FOLDER [RECORDS] [SPACE]        (default: 2000 of space mobile at 224 px)
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cmpnas.cost import Budget
from cmpnas.files import write_json
from cmpnas.recipe import load_recipe
from cmpnas.run import RunFolder
from cmpnas.search.front import build_front
from cmpnas.search.records import PairScore, Record, RecordLog

PARAGON = {"gallery": "resnet", "mflops": 4089.2, "score": 0.86}


def make_run(
    folder: Path,
    records: int = 2000,
    *,
    space: str = "mobile",
    size: int = 224,
    seed: int = 0,
    galleries: tuple[str, ...] = ("resnet",),
) -> RunFolder:
    """Architectures drawn log-uniformly over cost, with scores that grow with the logarithm of cost, and noise.

    Each further gallery scores two points higher than the one before.
    """
    free = ("galleries=[]", "search.budget_mflops=null")
    recipe = load_recipe("quickstart", [*free, f"query.space={space}", f"data.size={size}", f"seed={seed}"])
    run = RunFolder.begin(folder, recipe, resume=False, data="made up")
    (run.path / "timings.jsonl").write_text('{"stage": "search", "seconds": 12.5}\n')
    for name in galleries:
        (run.path / "gallery" / name).mkdir(parents=True)
        np.save(run.path / "gallery" / name / "pool.npy", np.zeros((1, run.recipe.space().embedding_dim), np.float32))
    searched, rng = run.recipe.space(), np.random.default_rng(seed)
    drawn = searched.sample_many(records * 2, seed, over="cost")
    archs = list(dict.fromkeys(drawn[n] for n in range(len(drawn))))[:records]
    log = RecordLog(run.records, searched)
    low, high = (searched.cost(arch).mflops for arch in searched.extremes())
    made = []
    for n, arch in enumerate(archs):
        cost = searched.cost(arch)
        reach = 0.4 + 0.4 * np.sqrt(np.log(cost.mflops / low * 1.05) / np.log(high / low * 1.05))
        score = float(reach - abs(rng.normal(0, 0.03)))
        against = {name: score + 0.02 * place for place, name in enumerate(galleries)}
        pairs = {name: PairScore(value, (value - 0.03, value + 0.03)) for name, value in against.items()}
        own = score - 0.02 + float(rng.normal(0, 0.02))
        made.append(Record(n, arch, cost.mflops, cost.params_m, pairs, own))
        log.append(made[-1])
    front = build_front(
        made, recipe="made-up", budget=Budget(), metric="map@r", paragon=PARAGON,
        galleries={name: {"name": name, "kind": "single", "mflops": 4089.2} for name in galleries},
    )  # fmt: skip
    write_json(run.front, front)
    return run


def main(
    folder: Path,
    records: Annotated[int, typer.Argument()] = 2000,
    space: Annotated[str, typer.Argument()] = "mobile",
) -> None:
    make_run(folder, records, space=space)


if __name__ == "__main__":
    from command import as_command  # beside it; tests import this file from elsewhere

    as_command(main)
