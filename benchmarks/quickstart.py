"""Where the time of `cmpnas search` goes, and how much of the search is bare network forward.

    python benchmarks/quickstart.py [RUN]

Runs the quickstart into RUN (default: a temporary folder), then prints the seconds of every stage and the
ratio of the search stage to the bare forward passes of the same pictures through the same carved networks,
measured in the same process. Absolute seconds are this machine's; the ratio is what to compare.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from command import as_command

from cmpnas.pipeline.search import search
from cmpnas.pipeline.stages import Stages
from cmpnas.recipe import load_recipe
from cmpnas.run import RunFolder
from cmpnas.search import RecordLog

_SAMPLE = 20  # networks whose bare forward is timed


def main(path: Annotated[Path | None, typer.Argument()] = None) -> None:
    path = path or Path(tempfile.mkdtemp()) / "run"
    recipe = load_recipe("quickstart", (), {"search.budget_mflops": 300.0})
    start = time.perf_counter()
    search(recipe, path)
    total = time.perf_counter() - start
    stages = RunFolder.open(path).seconds()
    for stage, seconds in stages.items():
        print(f"{stage:<10} {seconds:8.1f} s")
    print(f"{'total':<10} {total:8.1f} s (with rendering and start-up)")

    run = Stages.of_run(path, None, lambda message: None)
    records = RecordLog(run.run.records, run.space).read()
    some = records[:: max(1, len(records) // _SAMPLE)]
    pictures = [
        *run.splits.pool.sample_batches(128, recipe.search.calibration_images),
        *run.splits.search.query.float_batches(256),
        *run.splits.search.gallery.float_batches(256),
    ]
    networks = [run.supernet.carve(record.arch).eval() for record in some]
    start = time.perf_counter()
    with torch.inference_mode():
        for network in networks:
            for images in pictures:
                network(images)
    bare = (time.perf_counter() - start) / len(networks)
    spent = stages["search"] / len(records)
    print(f"evaluation {spent:.3f} s a candidate, bare forward {bare:.3f} s, ratio {spent / bare:.2f}")


if __name__ == "__main__":
    as_command(main)
