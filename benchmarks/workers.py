"""How much faster two workers are than one.

    python benchmarks/workers.py RUN [--data DIR] [--trials 256]

Random architectures of a finished run are evaluated in copies of it, by one worker and by two, each on one thread, none
waiting for another's result; seconds of the search stage, start of the processes included. Needs two free cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_KEPT = ("recipe.yaml", "manifest.json", "supernet.pt", "gallery")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run", type=Path)
    arguments.add_argument("--data")
    arguments.add_argument("--trials", type=int, default=256)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = {workers: search(given, Path(folder) / str(workers), workers) for workers in (1, 2)}
    one, two = seconds.values()
    print(f"{given.trials} architectures: one worker {one:.1f} s, two {two:.1f} s, {one / two:.2f} times as fast")


def search(given: argparse.Namespace, folder: Path, workers: int) -> float:
    """Seconds of a search by so many workers."""
    folder.mkdir()
    for name in _KEPT:
        copy = shutil.copytree if (given.run / name).is_dir() else shutil.copy
        copy(given.run / name, folder / name)
    recipe = folder / "recipe.yaml"
    recipe.write_text(re.sub(r"controller: \S+", "controller: optuna:random", recipe.read_text()))
    command = [sys.executable, "-m", "cmpnas", "search", "--recipe", str(recipe), "--run", str(folder)]
    command += ["--resume", "--trials", str(given.trials), "--workers", str(workers)]
    command += ["--data", given.data] if given.data else []
    threads = str(workers)  # of all workers together
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": threads})
    for line in (folder / "timings.jsonl").read_text().splitlines():
        if (entry := json.loads(line))["stage"] == "search":
            return float(entry["seconds"])
    raise SystemExit("the search left no timing")


if __name__ == "__main__":
    main()
