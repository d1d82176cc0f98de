"""Whether picks of a search within milliseconds keep them, when the files that are shipped are measured.

    cmpnas measure mobile_small --size 48 --out table.json
    python benchmarks/latency.py table.json [KEY=VALUE ...]

Runs the quickstart (with overrides of its recipe) under a latency budget of the median architecture, exports each
pair of the front as `cmpnas export` does, and times the files in turns, in rounds. Networks that the table was checked
on are timed in the same rounds: they say how fast the machine is now, against when the table was made. Prints
predictions, measurements at the table's pace and their ratios: the table's own held-out error is the yardstick.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from cmpnas.cost.latency import read_latency_table
from cmpnas.export.graph import trace, write_onnx
from cmpnas.export.pictures import UnitEncoder
from cmpnas.measure import OnnxRuntime
from cmpnas.measure.stopwatch import session_timer
from cmpnas.measure.table import Plan
from cmpnas.models import build_network
from cmpnas.pipeline.search import search
from cmpnas.recipe import load_recipe

_ROUNDS = 60


def main() -> None:
    torch.set_num_threads(1)
    file, overrides = Path(sys.argv[1]).absolute(), ["galleries=[]", *sys.argv[2:]]
    table = read_latency_table(file)
    space = load_recipe("quickstart", overrides, {"search.latency_table": str(file)}).space()
    limit = round(float(np.median(space.sample_many(1000, 0).ns)) / 1e6, 6)
    flags = {"search.latency_table": str(file), "search.budget_latency_ms": limit}
    with tempfile.TemporaryDirectory() as folder:
        front = search(load_recipe("quickstart", overrides, flags), Path(folder) / "run", say=lambda message: None)
        archs = [space.from_json(pair["query"]["arch"]) for pair in front["pairs"]]
        plan, device = Plan.of(space, len(table.networks) // 2, 0), OnnxRuntime()
        again = [(arch, row["ms"]) for arch, row in zip(plan.archs, table.networks, strict=True) if row["held_out"]]
        timers = [device.network(space.layers(arch)) for arch, _ in again]
        for number, arch in enumerate(archs):
            path = Path(folder) / f"{number}.onnx"
            encoder = UnitEncoder(build_network(space, arch).eval())
            write_onnx(trace(encoder, np.zeros((2, 3, space.size, space.size), np.float32)), path)
            timers.append(session_timer(path.read_bytes(), 1))
        rounds = np.array([[timer() for timer in timers] for _ in range(_ROUNDS)])
    now, halves = np.median(rounds, 0), np.abs(np.median(rounds[::2], 0) / np.median(rounds[1::2], 0) - 1)
    pace = now[: len(again)] / np.array([ms for _, ms in again])
    measured = now[len(again) :] / np.median(pace)
    print(f"budget {limit:.4f} ms, {len(archs)} pairs; table's mean error {table.error or float('nan'):.1%}")
    print(
        f"{len(again)} networks of the table take {np.median(pace):.3f} times as long as then (quartiles "
        f"{np.quantile(pace, 0.25):.3f} to {np.quantile(pace, 0.75):.3f}); by that measurements are divided"
    )
    print("predicted ms  measured ms  measured/predicted  measured/budget  query")
    for arch, ms in zip(archs, measured, strict=True):
        guess = space.cost(arch).latency_ms or float("nan")
        print(f"{guess:12.4f}  {ms:11.4f}  {ms / guess:18.3f}  {ms / limit:15.3f}  {arch.id}")
    print(f"the same file in two halves of the rounds differs by {halves.mean():.1%}")


if __name__ == "__main__":
    main()
