"""What weight sharing costs: a path of the supernet against the static network of the same architecture.

    python benchmarks/supernet.py [SPACE ...]    (default: shufflenet and mobile at 96 px)

Forward and backward, the same images, alternating in one run; the median ratio over the architectures is
what to compare. A candidate's calibration and embedding are set against the bare forward passes they need.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
import typer
from command import as_command
from torch import Tensor, nn

from cmpnas.models import Supernet, calibrate
from cmpnas.space import Arch, load_space

_ARCHS, _ROUNDS, _BATCH, _SIZE = 20, 5, 32, 96


def main(names: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    for name in names or ("shufflenet", "mobile"):
        space = load_space(name, size=_SIZE)
        supernet = Supernet(space)
        images = torch.randn(_BATCH, 3, _SIZE, _SIZE)
        archs = space.sample_many(_ARCHS, 0)
        steps, candidates = [], []
        for i in range(_ARCHS):
            arch, network = archs[i], supernet.carve(archs[i]).train()
            steps.append(ratio(partial(step, supernet, images, arch), partial(step, network, images)))
            candidates.append(ratio(partial(candidate, supernet, arch, images), partial(bare, network.eval(), images)))
        print(f"{name} at {_SIZE} px, {_ARCHS} architectures")
        print(f"  forward and backward, supernet path over static network: {told(steps)}")
        print(f"  carve, calibrate and embed over the two bare forwards:   {told(candidates)}")


def step(model: nn.Module, *inputs: object) -> None:
    """One forward and backward."""
    model.zero_grad(set_to_none=True)
    model(*inputs).square().sum().backward()


def candidate(supernet: Supernet, arch: Arch, images: Tensor) -> None:
    """What the evaluator does with a candidate: one batch to calibrate, one to embed."""
    network = calibrate(supernet.carve(arch), [images])
    with torch.inference_mode():
        network(images)


def bare(network: nn.Module, images: Tensor) -> None:
    """The two forward passes alone."""
    with torch.inference_mode():
        network(images)
        network(images)


def ratio(first: Callable[[], None], second: Callable[[], None]) -> float:
    """Median time of ``first`` over that of ``second``, taken in turns."""
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(_ROUNDS + 1):
        for times, work in zip(spent, (first, second), strict=True):
            start = time.perf_counter()
            work()
            if turn:  # the first is a warm-up
                times.append(time.perf_counter() - start)
    return statistics.median(spent[0]) / statistics.median(spent[1])


def told(ratios: list[float]) -> str:
    return f"median {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    as_command(main)
