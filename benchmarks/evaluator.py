"""What evaluating a candidate costs over the bare forward passes of the same pictures through the carved network.

    python benchmarks/evaluator.py [RUN] [--data DIR]    (by default quickstart, 50 uniform draws)

Of a run the candidates are the last 50 records, a generation of its search. Seconds of one thread's processor time,
candidates and bare passes in turns. The bare passes are of calibration and query pictures in the evaluator's own
batches, as with ``search.homogeneous: front``; and of gallery pictures too, which M(q, q) of all candidates needs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from command import as_command

from cmpnas.data import load_splits
from cmpnas.gallery.base import Indexed
from cmpnas.models import Supernet
from cmpnas.pipeline.stages import Stages
from cmpnas.recipe import load_recipe
from cmpnas.search import RecordLog
from cmpnas.search.evaluator import Evaluator
from cmpnas.search.records import Proposal
from cmpnas.space import Arch

_GENERATION, _ALONE = 50, 12


def main(run: Annotated[Path | None, typer.Argument()] = None, data: str | None = None) -> None:
    torch.set_num_threads(1)
    evaluator, archs = of_run(run, data) if run else of_quickstart()
    plan = [Proposal(n, arch) for n, arch in enumerate(archs)]
    evaluator._homogeneous = True
    evaluator(*plan[0][:2])  # reads the pictures
    batches = [list(batches()) for batches in (evaluator._calibration, evaluator._query, evaluator._gallery)]
    space = evaluator.supernet.space
    print(f"{space.name} at {space.size} px; pictures: calibration {{}}, queries {{}}, gallery {{}}".format(
        *(sum(map(len, part)) for part in batches)
    ))  # fmt: skip

    for homogeneous, what in ((False, "the front"), (True, "all")):
        evaluator._homogeneous = homogeneous
        pictures = list(chain(*batches[: 3 if homogeneous else 2]))

        def bare(arch: Arch, pictures: list[torch.Tensor] = pictures) -> float:
            network = evaluator.supernet.carve(arch).eval()
            with torch.inference_mode():
                return spent(lambda: [network(images) for images in pictures])

        ratios = np.array([alone(evaluator, arch, bare) for arch in archs[:_ALONE]])
        seconds, passes = together(evaluator, plan, bare)
        print(f"  M(q, q) of {what}: bare passes {passes / len(plan):.3f} s a candidate")
        print(f"    alone, {_ALONE} candidates: median {statistics.median(ratios):.3f} "
              f"(from {ratios.min():.3f} to {ratios.max():.3f})")  # fmt: skip
        print(f"    together, {len(plan)} candidates: {seconds / passes:.3f}")


def alone(evaluator: Evaluator, arch: Arch, bare: Callable[[Arch], float]) -> float:
    """An evaluation over the bare passes before and after it, median of three."""
    ratios = []
    for _ in range(3):
        before = bare(arch)
        own = spent(lambda: evaluator(0, arch))
        ratios.append(2 * own / (before + bare(arch)))
    return statistics.median(ratios)


def together(evaluator: Evaluator, plan: list[Proposal], bare: Callable[[Arch], float]) -> tuple[float, float]:
    """Seconds of all evaluations, and of the bare passes of each group right after it."""
    seconds, passes, start = 0.0, 0.0, time.process_time()
    for group in evaluator.together(plan):
        seconds += time.process_time() - start
        passes += sum(bare(record.arch) for record in group)
        start = time.process_time()
    return seconds, passes


def of_run(path: Path, data: str | None) -> tuple[Evaluator, list[Arch]]:
    """The judge of a run and its last generation."""
    stages = Stages.of_run(path, data, print)
    records = RecordLog(stages.run.records, stages.space).read()
    return stages.evaluator(), [record.arch for record in records[-_GENERATION:]]


def of_quickstart() -> tuple[Evaluator, list[Arch]]:
    """Random weights and gallery vectors, which cost what trained ones cost."""
    recipe = load_recipe("quickstart", ["data.train_identities=60", "data.unlabelled_identities=200"])
    splits, space = load_splits(recipe.data), recipe.space()
    drawn = space.sample_many(_GENERATION, 0)
    vectors = np.random.default_rng(0).standard_normal((len(splits.search.gallery), space.embedding_dim), np.float32)
    galleries = {"random": Indexed(vectors)}
    evaluator = Evaluator(
        Supernet(space).eval(), splits.pool, splits.search, galleries, metric="map@r", calibration_images=512
    )
    return evaluator, [drawn[i] for i in range(_GENERATION)]


def spent(work: Callable[[], object]) -> float:
    """Processor seconds of ``work``."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    as_command(main)
