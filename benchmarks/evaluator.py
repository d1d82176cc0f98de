"""What evaluating a candidate costs over the bare forward passes of the same pictures through the carved network.

    python benchmarks/evaluator.py [RUN] [--data DIR]    (by default quickstart, 50 uniform draws)

Of a run the candidates are the last 50 records, a generation of its search. Seconds of one thread's processor time,
candidates and bare passes in turns. The bare passes are of calibration and query pictures in the evaluator's own
batches, as with ``search.homogeneous: front``; and of gallery pictures too, which M(q, q) of all candidates needs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cmpnas.data import load_splits
from cmpnas.gallery.base import Embedded
from cmpnas.models import Supernet
from cmpnas.pipeline.stages import Stages
from cmpnas.recipe import load_recipe
from cmpnas.search import RecordLog
from cmpnas.search.evaluator import Evaluator
from cmpnas.search.records import Proposal
from cmpnas.space import Arch

_GENERATION, _ALONE = 50, 12


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run", nargs="?", type=Path)
    arguments.add_argument("--data")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    evaluator, archs = of_run(given.run, given.data) if given.run else of_quickstart()
    plan = [Proposal(n, arch) for n, arch in enumerate(archs)]
    evaluator._homogeneous = True
    evaluator(*plan[0][:2])  # reads the pictures
    batches = [list(batches()) for batches in (evaluator._calibration, evaluator._query, evaluator._gallery)]
    space = evaluator.supernet.space
    print(f"{space.name} at {space.size} px; pictures: calibration {{}}, queries {{}}, gallery {{}}".format(
        *(sum(map(len, part)) for part in batches)
    ))  # fmt: skip

    def bare(arch: Arch) -> list[float]:
        network = evaluator.supernet.carve(arch).eval()
        with torch.inference_mode():
            return [spent(lambda part=part: [network(images) for images in part]) for part in batches]

    for homogeneous, parts, what in ((False, slice(2), "the front"), (True, slice(3), "all")):
        evaluator._homogeneous = homogeneous
        passes = np.array([bare(arch) for arch in archs])
        alone = np.array([spent(lambda n=n: evaluator(n, archs[n])) for n in range(_ALONE)])
        together = spent(lambda: list(evaluator.together(plan)))
        passes = (passes + np.array([bare(arch) for arch in archs])) / 2  # before and after
        seconds = passes[:, parts].sum(1)
        ratios = alone / seconds[:_ALONE]
        print(f"  M(q, q) of {what}: bare passes {seconds.mean():.3f} s a candidate")
        print(f"    alone, {_ALONE} candidates: median {statistics.median(ratios):.3f} "
              f"(from {ratios.min():.3f} to {ratios.max():.3f})")  # fmt: skip
        print(f"    together, {len(archs)} candidates: {together / seconds.sum():.3f}")


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
    rng = np.random.default_rng(0)
    query, gallery = (
        rng.standard_normal((len(items), space.embedding_dim), np.float32)
        for items in (splits.search.query, splits.search.gallery)
    )
    galleries = {"random": Embedded(gallery, query, gallery)}
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
    main()
