"""The evaluator against pytorch-metric-learning, against the bare matrix product, and its memory.

    python benchmarks/metrics.py

Prints, from one run: the time of full mAP + hit@1 + map@r on 5,000 x 5,000 x 128 here and by pytorch-metric-learning's
calculator for the same quantities (and that the values agree); the time of each kind of metric over that of the matrix
product alone; and the peak memory, beyond the embeddings, as the gallery grows from 10^5 to 10^6 items, each size in a
process of its own with memory-mapped embeddings.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from command import as_command
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from timing import seconds

from cmpnas.retrieval import evaluate_retrieval

_ITEMS, _DIM, _CLASSES = 5000, 128, 500
_QUERIES = 2000  # of the memory measurement


def main(gallery: Annotated[Path | None, typer.Argument(hidden=True)] = None) -> None:
    if gallery is not None:  # the process of its own
        _measure(gallery)
    else:
        _compare()


def _compare() -> None:
    rng = np.random.default_rng(0)
    asked, stored = labels = rng.integers(_CLASSES, size=(2, _ITEMS))
    centres = rng.standard_normal((_CLASSES, _DIM), np.float32)
    query, gallery = (centres[own] + 2 * rng.standard_normal((_ITEMS, _DIM), np.float32) for own in labels)
    unit = [torch.nn.functional.normalize(torch.from_numpy(side)) for side in (query, gallery)]
    codes = [torch.from_numpy(own) for own in labels]

    names = ("mean_average_precision", "precision_at_1", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, k=None)
    theirs = calculator.get_accuracy(unit[0], codes[0], unit[1], codes[1])
    ours = evaluate_retrieval(query, gallery, asked, stored, ("map_full", "hit@1", "map@r"))
    for name, metric in zip(names, ("map_full", "hit@1", "map@r"), strict=True):
        print(f"{metric:>9}: {ours[metric]:.6f}, pytorch-metric-learning {theirs[name]:.6f}")

    peer = seconds(lambda: calculator.get_accuracy(unit[0], codes[0], unit[1], codes[1]), 1)
    product = seconds(lambda: unit[0] @ unit[1].T, 7)
    print(f"matrix product {_ITEMS} x {_ITEMS} x {_DIM}: {product * 1e3:.0f} ms")
    for metrics in (("map_full", "hit@1", "map@r"), ("hit@1",), ("hit@10",), ("recall@10",), ("map@100/min",)):
        own = seconds(lambda chosen=metrics: evaluate_retrieval(query, gallery, asked, stored, chosen), 3)  # type: ignore[misc]
        line = f"{' + '.join(metrics)}: {own * 1e3:.0f} ms, {own / product:.1f} x the product"
        if len(metrics) == 3:
            line += f"; pytorch-metric-learning {peer * 1e3:.0f} ms, ratio {peer / own:.1f}"
        print(line)

    with tempfile.TemporaryDirectory() as folder:
        peaks = {items: _peak(Path(folder), items) for items in (100_000, 300_000, 1_000_000)}
    first = peaks[100_000]
    for items, peak in peaks.items():
        print(
            f"{_QUERIES} queries against {items:,} memory-mapped items: peak {peak:.0f} MiB beyond start-up, "
            f"{peak / first:.2f} x that of 100,000 (labels of {items:,}: {8 * items / 2**20:.0f} MiB an array)"
        )


def _peak(folder: Path, items: int) -> float:
    """Peak anonymous memory of an evaluation in a fresh process, MiB over what it was before."""
    rng = np.random.default_rng(1)
    saved = np.lib.format.open_memmap(folder / "gallery.npy", "w+", np.float32, (items, _DIM))
    for start in range(0, items, 50_000):
        saved[start : start + 50_000] = rng.standard_normal((50_000, _DIM), np.float32)
    saved.flush()
    del saved
    out = subprocess.run(
        [sys.executable, __file__, str(folder / "gallery.npy")], check=True, capture_output=True, text=True
    )
    return float(out.stdout)


def _measure(path: Path) -> None:
    import threading

    gallery = np.load(path, mmap_mode="r")
    rng = np.random.default_rng(2)
    query = rng.standard_normal((_QUERIES, _DIM), np.float32)
    labels = rng.integers(len(gallery) // 10, size=len(gallery))
    evaluate_retrieval(query[:8], gallery[:1000], labels[:8] % 20, labels[:1000] % 20, ("hit@1",))
    done, peak = threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, _anonymous())

    before = _anonymous()
    watcher = threading.Thread(target=watch)
    watcher.start()
    evaluate_retrieval(query, gallery, labels[:_QUERIES], labels, ("map_full", "hit@1", "map@r"))
    done.set()
    watcher.join()
    print((peak - before) / 2**20)


def _anonymous() -> int:
    """Bytes of resident memory that is not a mapped file."""
    pages = [int(number) for number in Path("/proc/self/statm").read_text().split()]
    return (pages[1] - pages[2]) * resource.getpagesize()


if __name__ == "__main__":
    as_command(main)
