"""Measuring a latency table: operators alone, whole networks to correct their sum by, and others to check it on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmpnas.cost import Cost
from cmpnas.cost.latency import LatencyTable
from cmpnas.errors import LatencyError
from cmpnas.files import append_line, drop_partial_line, hash_of, whole_lines
from cmpnas.measure.predictor import fit, predict, quality, repeatability, terms
from cmpnas.measure.stopwatch import RUNS, Device, Timer
from cmpnas.progress import track
from cmpnas.space import Arch, Layer, SearchSpace

_FEWEST = 10  # networks to fit on, and as many to check on


@dataclass(frozen=True)
class Plan:
    """What is measured of a space: every operator, and networks log-uniform over cost, every second to fit on."""

    space: SearchSpace
    operators: dict[str, tuple[Layer, Cost]]
    archs: list[Arch]

    @staticmethod
    def of(space: SearchSpace, networks: int, seed: int) -> Plan:
        """Draw ``networks`` to fit on and as many to check on.

        Raises:
            LatencyError: that is too few to fit on, or more than the space has.
        """
        if networks < _FEWEST:
            raise LatencyError(f"--networks is {networks}; a correction needs at least {_FEWEST}.")
        drawn = list(dict.fromkeys(space.sample_many(20 * networks, seed, over="cost")))[: 2 * networks]
        if len(drawn) < 2 * networks:
            raise LatencyError(
                f"space {space.name!r} has too few architectures for twice {networks}; lower --networks."
            )
        return Plan(space, space.operators, drawn)

    def counts(self) -> np.ndarray:
        """How often each network has each operator: float64 ``(networks, operators)``."""
        place = {name: number for number, name in enumerate(self.operators)}
        counts = np.zeros((len(self.archs), len(place)))
        for row, arch in zip(counts, self.archs, strict=True):
            np.add.at(row, [place[layer.operator] for layer in self.space.layers(arch)], 1)
        return counts


def measure(
    space: SearchSpace, device: Device, out: Path, *, networks: int, rounds: int, seed: int, say: Callable[[str], None]
) -> LatencyTable:
    """Measure ``space`` on ``device`` and write the table to ``out``; continues what was interrupted.

    Operators and networks take turns in ``rounds`` rounds, each in an order of its own, so that whatever slows the
    machine for a while slows all alike. The median over rounds counts.

    Raises:
        LatencyError: too few rounds or networks, a folder that cannot be written, or an interrupted measuring of
            another space or other settings beside ``out``.
    """
    if rounds < 2:
        raise LatencyError(f"--rounds is {rounds}; give at least 2, or how repeatable they are would not be known.")
    plan = Plan.of(space, networks, seed)
    log = _Log(out, hash_of(space.identity, device.provenance(), networks, seed))
    times = _rounds(plan, device, log, rounds, say)
    table = build_table(plan, device, times)
    table.write(out)
    log.path.unlink()
    return table


def build_table(plan: Plan, device: Device, rounds: np.ndarray) -> LatencyTable:
    """The table from times ``(rounds, operators + networks)`` in ms."""
    number = len(plan.operators)
    middle = np.median(rounds, 0)
    alone, measured = middle[:number], middle[number:]
    of = terms(plan.counts(), alone, np.array([cost.params_m for _, cost in plan.operators.values()]))
    correction = fit(of[::2], measured[::2])
    predicted = predict(of, correction)
    held_out = quality(predicted[1::2], measured[1::2])
    held_out["repeatability"] = repeatability(rounds[:, number:])
    held_out["plain_sum_mape"] = quality(of[1::2, 1], measured[1::2])["mape"]
    return LatencyTable(
        dict(zip(plan.operators, map(float, alone), strict=True)),
        correction,
        plan.space.identity,
        held_out,
        device.provenance() | {"rounds": len(rounds), "operator_repeatability": repeatability(rounds[:, :number])},
        [
            {"id": arch.id, "ms": float(ms), "predicted_ms": float(guess), "held_out": bool(place % 2)}
            for place, (arch, ms, guess) in enumerate(zip(plan.archs, measured, predicted, strict=True))
        ],
    )


def _rounds(plan: Plan, device: Device, log: _Log, rounds: int, say: Callable[[str], None]) -> np.ndarray:
    """Times ``(rounds, operators + networks)``, those of an earlier start included."""
    done = log.read(len(plan.operators) + len(plan.archs))
    if len(done) < rounds:
        say(
            f"measuring {len(plan.operators):,} operators and {len(plan.archs)} networks of {plan.space.name} at "
            f"{plan.space.size} px, {rounds - len(done)} of {rounds} rounds: about "
            f"{_seconds(plan, device, rounds - len(done)) / 60:.1f} minutes"
        )
        timers = _ready(plan, device)
        for number in track(range(len(done), rounds), "rounds", total=rounds, done=len(done)):
            row = np.zeros(len(timers))
            for place in np.random.default_rng(number).permutation(len(timers)):
                row[place] = timers[place]()
            log.append(row)
            done.append(row)
    return np.stack(done[:rounds])


def _seconds(plan: Plan, device: Device, rounds: int) -> float:
    """How long it will take, if all do as many multiply-adds a second as the dearest network."""
    dearest = plan.space.extremes()[1]
    layers, start = plan.space.layers(dearest), time.perf_counter()
    for layer in layers:
        device.operator(layer)
    network = device.network(layers)
    build = (time.perf_counter() - start) / (len(layers) + 1)
    macs = sum(cost.macs for _, cost in plan.operators.values()) + int(plan.space.batch(plan.archs).macs.sum())
    run = network() / 1000 / plan.space.cost(dearest).macs * macs * (RUNS + 1)
    return build * (len(plan.operators) + len(plan.archs)) + run * rounds


def _ready(plan: Plan, device: Device) -> list[Timer]:
    operators = track(plan.operators.values(), "operators", total=len(plan.operators))
    timers = [device.operator(layer) for layer, _ in operators]
    networks = track(plan.archs, "networks", total=len(plan.archs))
    return timers + [device.network(plan.space.layers(arch)) for arch in networks]


class _Log:
    """Rounds that are done, one a line, beside the table that they are to become."""

    def __init__(self, out: Path, key: str) -> None:
        self.path, self._key = out.with_name(out.name + ".rounds.jsonl"), key

    def read(self, width: int) -> list[np.ndarray]:
        """The rounds of an earlier start."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            drop_partial_line(self.path)
            lines = whole_lines(self.path)
            if not lines:
                append_line(self.path, self._key)
        except OSError as fault:
            raise LatencyError(f"cannot write to {self.path.parent}: {fault.strerror}; name another --out.") from None
        if lines and json.loads(lines[0]) != self._key:
            raise LatencyError(
                f"{self.path} is an interrupted measuring of something else (space, device, settings); name another "
                "--out, or delete it."
            )
        found = [np.array(json.loads(line)) for line in lines[1:]]
        if any(row.shape != (width,) for row in found):
            raise LatencyError(f"{self.path} is damaged; delete it.")
        return found

    def append(self, row: np.ndarray) -> None:
        """Keep one more round."""
        append_line(self.path, row.tolist())
