"""What int8 brings and costs: size, time and score of a bundle's two files, side by side in one run.

    python benchmarks/int8.py BUNDLE [--index FILE] [--data DIR] [--rounds 100]

On one thread, whose own time is counted, not that of the clock. The two files take turns, and the ratio of each round's
times is what the median and the range are of: what else the machine does meanwhile hits both. With --index also the
heterogeneous score of both, paired over queries.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import typer

from cmpnas.export.bundle import INT8, ONNX, Bundle
from cmpnas.export.graph import run_onnx
from cmpnas.pipeline.verify import verify


def main(bundle: Path, index: Path | None = None, data: str | None = None, rounds: int = 100) -> None:
    torch.set_num_threads(1)
    found = Bundle.open(bundle)
    whole, small = (run_onnx(bundle / name) for name in (ONNX, INT8))
    sizes = {name: found.manifest["files"][name]["bytes"] for name in (ONNX, INT8)}
    print(f"{found.manifest['query']['id']}, {found.manifest['query']['mflops']:.3f} MFLOPs")
    kept = found.manifest["int8"]["kept_float32"]
    print(f"layers in float32: {len(kept)} of {found.manifest['int8']['layers']}")
    print(f"size: {sizes[ONNX]:,} and {sizes[INT8]:,} bytes, {sizes[ONNX] / sizes[INT8]:.2f} x smaller")
    for batch in (1, 16):
        pictures = found.pictures.example(batch)
        repeats = max(1, int(0.01 / _seconds(whole, pictures, 10)))  # a round of each is some 10 ms
        times = np.array(
            [(_seconds(whole, pictures, repeats), _seconds(small, pictures, repeats)) for _ in range(rounds)]
        )
        ratio = times[:, 0] / times[:, 1]
        low, middle, high = np.quantile(ratio, [0.1, 0.5, 0.9])
        print(
            "batch {}: float32 {:.3f} ms, int8 {:.3f} ms, ".format(batch, *(1e3 * np.median(times, axis=0)))
            + f"{middle:.2f} x faster (10% to 90% of {rounds} rounds: {low:.2f} to {high:.2f})"
        )
    if index is not None:
        scores = verify(bundle, index, data=data)["scores"]
        against = scores[INT8]["against_float32"]
        print(
            f"{scores['metric']}, {scores['queries']} queries: float32 {scores[ONNX]['score']:.4f}, "
            f"int8 {scores[INT8]['score']:.4f}, {against['points']:+.2f} points "
            f"[{against['interval'][0]:+.2f}, {against['interval'][1]:+.2f}]"
        )


def _seconds(run, pictures: np.ndarray, repeats: int) -> float:  # type: ignore[no-untyped-def]
    """A call, on average over ``repeats``, after one to warm up."""
    run(pictures)
    start = time.thread_time()
    for _ in range(repeats):
        run(pictures)
    return (time.thread_time() - start) / repeats


if __name__ == "__main__":
    typer.run(main)
