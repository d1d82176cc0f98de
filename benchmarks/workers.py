"""How much faster two workers are than one.

    python benchmarks/workers.py RUN [--data DIR] [--trials 256]

Random architectures of a finished run are evaluated in copies of it, by one worker and by two, each on one thread, none
waiting for another's result; seconds of the search stage, start of the processes included. Needs two free cores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from command import as_command

from cmpnas.run import RunFolder

_KEPT = ("recipe.yaml", "manifest.json", "supernet.pt", "gallery")


def main(run: Path, data: str | None = None, trials: int = 256) -> None:
    run = RunFolder.open(run).path
    with tempfile.TemporaryDirectory() as folder:
        seconds = {workers: search(run, data, trials, Path(folder) / str(workers), workers) for workers in (1, 2)}
    one, two = seconds.values()
    print(f"{trials} architectures: one worker {one:.1f} s, two {two:.1f} s, {one / two:.2f} times as fast")


def search(run: Path, data: str | None, trials: int, folder: Path, workers: int) -> float:
    """Seconds of a search by so many workers."""
    folder.mkdir()
    for name in _KEPT:
        copy = shutil.copytree if (run / name).is_dir() else shutil.copy
        copy(run / name, folder / name)
    recipe = folder / "recipe.yaml"
    recipe.write_text(re.sub(r"controller: \S+", "controller: optuna:random", recipe.read_text()))
    command = [sys.executable, "-m", "cmpnas", "search", "--recipe", str(recipe), "--run", str(folder)]
    command += ["--resume", "--trials", str(trials), "--workers", str(workers)]
    command += ["--data", data] if data else []
    threads = str(workers)  # of all workers together
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": threads})
    return RunFolder.open(folder).seconds()["search"]


if __name__ == "__main__":
    as_command(main)
