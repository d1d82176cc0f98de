"""What int8 brings and costs: size, time and score of a bundle's files, side by side in one run.

    python benchmarks/int8.py BUNDLE [--index FILE] [--data DIR] [--rounds 100]

Everything in int8 and weights alone, each over float32. On one thread, whose own time is counted, not that of the
clock. The two files take turns, made ready anew every tenth round in an order of its own (where in memory a session
lies makes some percent), and the ratio of each round's times is what the median and the range are of: what else the
machine does meanwhile hits both. With --index also the heterogeneous scores, paired over queries.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from command import as_command

from cmpnas.export.bundle import ONNX, SMALL, Bundle
from cmpnas.export.graph import run_onnx
from cmpnas.pipeline.verify import verify

_MADE_READY = 10  # rounds


def main(bundle: Path, index: Path | None = None, data: str | None = None, rounds: int = 100) -> None:
    torch.set_num_threads(1)
    found = Bundle.open(bundle)
    print(f"{found.manifest['query']['id']}, {found.manifest['query']['mflops']:.3f} MFLOPs")
    kept = found.manifest["int8"]["kept_float32"]
    print(f"layers in float32: {len(kept)} of {found.manifest['int8']['layers']}")
    scores = None if index is None else verify(bundle, index, data=data)["scores"]
    bytes_of = {name: found.manifest["files"][name]["bytes"] for name in (ONNX, *SMALL) if found.has(name)}
    for name in filter(found.has, SMALL):
        print(
            f"{name}: {bytes_of[name]:,} of {bytes_of[ONNX]:,} bytes, {bytes_of[ONNX] / bytes_of[name]:.2f} x smaller"
        )
        for batch in (1, 16):
            times = _take_turns([bundle / ONNX, bundle / name], found.pictures.example(batch), rounds)
            low, middle, high = np.quantile(times[:, 0] / times[:, 1], [0.1, 0.5, 0.9])
            print(
                "  batch {}: float32 {:.3f} ms, this {:.3f} ms, ".format(batch, *(1e3 * np.median(times, axis=0)))
                + f"{middle:.2f} x as fast (10% to 90% of {rounds} rounds: {low:.2f} to {high:.2f})"
            )
        if scores is not None:
            against = scores[name]["against_float32"]
            print(
                f"  {scores['metric']}, {scores['queries']} queries: float32 {scores[ONNX]['score']:.4f}, "
                f"this {scores[name]['score']:.4f}, {against['points']:+.2f} points "
                f"[{against['interval'][0]:+.2f}, {against['interval'][1]:+.2f}]"
            )


def _take_turns(files: list[Path], pictures: np.ndarray, rounds: int) -> np.ndarray:
    """Seconds a call of each file in each round: ``(rounds, files)``."""
    rng, times = np.random.default_rng(0), np.zeros((rounds, len(files)))
    for turn in range(rounds):
        if turn % _MADE_READY == 0:
            runners = {}
            for place in rng.permutation(len(files)):
                runners[place] = run_onnx(files[place])
            repeats = max(1, int(0.01 / _seconds(runners[0], pictures, 10)))  # a round of each is some 10 ms
        for place in rng.permutation(len(files)):
            times[turn, place] = _seconds(runners[place], pictures, repeats)
    return times


def _seconds(run, pictures: np.ndarray, repeats: int) -> float:  # type: ignore[no-untyped-def]
    """A call, on average over ``repeats``, after one to warm up."""
    run(pictures)
    start = time.thread_time()
    for _ in range(repeats):
        run(pictures)
    return (time.thread_time() - start) / repeats


if __name__ == "__main__":
    as_command(main)
