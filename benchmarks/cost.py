"""The closed-form cost and the sampler against what peers do: one fvcore call, one rejection loop.

    python benchmarks/cost.py [SPACE]        (default: shufflenet)

Prints ratios measured in one run: costs of many architectures against one fvcore call each, and sampling
under a budget that fewer than one in ten thousand architectures meet.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Annotated

import typer
from command import as_command
from timing import seconds

from cmpnas.cost.audit import audit
from cmpnas.errors import BudgetError
from cmpnas.models import build_network
from cmpnas.space import load_space

_MANY = 200_000
_AUDITED = 10


def main(name: Annotated[str, typer.Argument()] = "shufflenet") -> None:
    space = load_space(name)
    archs = space.sample_many(_MANY, 0)
    networks = [build_network(space, archs[i]) for i in range(_AUDITED)]
    audit(networks[0], space.size)
    fvcore = statistics.median(seconds(partial(audit, network, space.size), 1) for network in networks)
    batched = seconds(lambda: (archs.macs, archs.params, archs.peak)) / _MANY
    print(f"{space.name} at {space.size} px, {space.count():.3g} architectures")
    print(
        f"cost: fvcore {fvcore * 1e3:.1f} ms a network; multiply-adds, parameters and memory {batched * 1e9:.0f} ns "
        f"an architecture; ratio {fvcore / batched:,.0f}"
    )

    low, high = (space.cost(arch) for arch in space.extremes())
    limit, share = high.mflops, 1.0
    while share >= 1e-4 and share * space.count() > 1:
        limit = low.mflops + 0.9 * (limit - low.mflops)
        share = space.count(max_mflops=limit) / space.count()
    free = seconds(lambda: space.sample_many(20_000, 1)) / 20_000
    within = {"max_mflops": limit}
    both = within | {"max_params_m": (3 * low.params_m + high.params_m) / 4}
    for what, limits in (("MFLOPs", within), ("MFLOPs and parameters", both)):
        table = seconds(partial(space.sample_many, 1, 0, **limits), 1)  # type: ignore[arg-type]
        drawn = seconds(partial(space.sample_many, 20_000, 1, **limits)) / 20_000  # type: ignore[arg-type]
        print(f"sampling within {what}: {1 / drawn:,.0f} a second after {table * 1e3:.0f} ms for the table")
        if limits is within:
            print(
                f"  1 in {1 / share:,.0f} architectures is within {limit:.1f} MFLOPs: rejection from uniform draws "
                f"would take {free / share / drawn:,.0f} times as long"
            )
    start = time.perf_counter()
    try:
        load_space(name).sample_many(1, 0, max_mflops=2 * low.mflops, max_params_m=low.params_m / 2)
    except BudgetError as fault:
        print(f"unreachable budget refused in {time.perf_counter() - start:.2f} s, reading the space included: {fault}")


if __name__ == "__main__":
    as_command(main)
