"""Measuring a latency table: operators alone, whole networks to correct their sum by, and others to check it on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.cost import Cost
from cmpnas.cost.latency import LatencyTable
from cmpnas.errors import LatencyError
from cmpnas.files import append_line, drop_partial_line, hash_of, whole_lines
from cmpnas.measure.predictor import fit, operator_terms, predict, quality, terms
from cmpnas.measure.stopwatch import Device, Timer
from cmpnas.progress import track
from cmpnas.search.rank import kendall
from cmpnas.space import Arch, Layer, SearchSpace

_FEWEST = 10  # networks to fit on, and as many to check on
_AT_ONCE = 400_000_000  # parameters of all that is ready to run at a time: some 4 GB in onnxruntime
_YARDSTICKS = 5  # networks that are in every block
_SITTINGS = 6  # times that a block is made ready anew


@dataclass(frozen=True)
class Plan:
    """What is measured of a space: every operator, and networks log-uniform over cost, every second to fit on."""

    space: SearchSpace
    operators: dict[str, tuple[Layer, Cost]]
    archs: list[Arch]
    seed: int

    @staticmethod
    def of(space: SearchSpace, networks: int, seed: int) -> Plan:
        """Draw ``networks`` to fit on and as many to check on.

        Raises:
            LatencyError: that is too few to fit on, or more than the space has.
        """
        if networks < _FEWEST:
            raise LatencyError(f"--networks is {networks}; a correction needs at least {_FEWEST}.")
        many = space.sample_many(20 * networks, seed, over="cost")
        drawn = list(dict.fromkeys(many[place] for place in range(len(many))))[: 2 * networks]
        if len(drawn) < 2 * networks:
            raise LatencyError(
                f"space {space.name!r} has too few architectures for twice {networks}; lower --networks."
            )
        return Plan(space, space.operators, drawn, seed)

    @property
    def blocks(self) -> list[np.ndarray]:
        """Numbers of what takes turns, operators first and then networks, in mixed blocks as large as memory lets."""
        costs = [*(cost.params for _, cost in self.operators.values()), *self.space.batch(self.archs).params]
        things = np.random.default_rng(self.seed).permutation(len(costs))
        filled = np.cumsum(np.array(costs)[things]) // _AT_ONCE
        return np.split(things, np.flatnonzero(np.diff(filled)) + 1)

    def timer(self, device: Device, thing: int) -> Timer:
        """One of them, ready to run."""
        if thing < len(self.operators):
            return device.operator([*self.operators.values()][thing][0])
        return device.network(self.space.layers(self.archs[thing - len(self.operators)]))

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

    Operators and networks run in turn, once in each of ``rounds`` rounds and each time in another order, so that
    whatever slows the machine for a while slows all alike, and none finds its weights in the caches: a query comes
    alone, and only without caches do operators add up. Medians over rounds count. What does not fit into memory at
    once is measured in blocks; a few networks are in every block, and blocks are brought to the pace at which these
    usually run. Where in memory something happens to lie makes a tenth of its time, for as long as it lies there: so
    all are made ready several times, each time in another order.

    Raises:
        LatencyError: too few rounds or networks, a folder that cannot be written, or an interrupted measuring of
            another space or other settings beside ``out``.
    """
    if rounds < 2:
        raise LatencyError(f"--rounds is {rounds}; give at least 2, or nobody knows how repeatable they are.")
    if out.is_dir():
        raise LatencyError(f"--out {out} is a folder; name a file in it.")
    if out.suffix != ".json":
        raise LatencyError(f"--out {out}: a latency table is written as JSON; use a name that ends in .json.")
    plan = Plan.of(space, networks, seed)
    log = _Log(out, hash_of(space.identity, device.provenance(), networks, rounds, seed))
    table = build_table(plan, _measured(plan, device, log, rounds, say), device.provenance() | {"rounds": rounds})
    table.write(out)
    log.path.unlink()
    return table


def build_table(plan: Plan, times: np.ndarray, provenance: dict[str, Any]) -> LatencyTable:
    """The table from milliseconds ``(rounds, operators + networks)``."""
    middle, number = np.median(times, 0), len(plan.operators)
    alone, measured = middle[:number], middle[number:]
    of_operators = operator_terms(alone, np.array([cost.params_m for _, cost in plan.operators.values()]))
    of = terms(plan.counts(), of_operators)
    correction = fit(of[::2], measured[::2], of_operators)
    predicted = predict(of, correction)
    held_out = quality(predicted[1::2], measured[1::2])
    halves = np.median(times[::2, number:], 0), np.median(times[1::2, number:], 0)
    held_out["repeatability"] = float((np.abs(halves[0] - halves[1]) / measured).mean())
    held_out["kendall_repeated"] = float(kendall(*halves, np.ones((1, len(measured))))[0])
    held_out["plain_sum_mape"] = quality(of[1::2, 1], measured[1::2])["mape"]
    return LatencyTable(
        dict(zip(plan.operators, map(float, alone), strict=True)),
        correction,
        plan.space.identity,
        held_out,
        provenance,
        [
            {"id": arch.id, "ms": float(ms), "predicted_ms": float(guess), "held_out": bool(place % 2)}
            for place, (arch, ms, guess) in enumerate(zip(plan.archs, measured, predicted, strict=True))
        ],
    )


def _measured(plan: Plan, device: Device, log: _Log, rounds: int, say: Callable[[str], None]) -> np.ndarray:
    """Milliseconds ``(rounds, operators + networks)``, those of an earlier start included."""
    blocks, sitting = plan.blocks, -1
    done = log.read([_YARDSTICKS + len(block) for block in blocks for _ in range(rounds)])
    if len(done) < (total := len(blocks) * rounds):
        say(
            f"measuring {len(plan.operators):,} operators and {len(plan.archs)} networks of {plan.space.name} at "
            f"{plan.space.size} px; {len(done)} of {total} rounds are done, the others take about "
            f"{_seconds(plan, device, rounds) * (1 - len(done) / total) / 60:.1f} minutes"
        )
    timers: list[Timer] = []
    for number in track(range(len(done), total), "rounds", total=total, done=len(done)):
        if (now := number * _SITTINGS // rounds) != sitting:
            timers, sitting = [], now  # free the memory first
            timers = _ready(plan, device, blocks[number // rounds], now)
        row = np.zeros(len(timers))
        for place in np.random.default_rng(number).permutation(len(timers)):
            row[place] = timers[place]()
        done.append(row)
        log.append(row)
    of_block = [np.stack(done[number * rounds : (number + 1) * rounds]) for number in range(len(blocks))]
    marks = np.stack([np.median(each[:, :_YARDSTICKS], 0) for each in of_block])
    times = np.zeros((rounds, sum(map(len, blocks))))
    for things, each, pace in zip(blocks, of_block, np.median(np.median(marks, 0) / marks, 1), strict=True):
        times[:, things] = each[:, _YARDSTICKS:] * pace
    return times


def _ready(plan: Plan, device: Device, block: np.ndarray, seed: int) -> list[Timer]:
    """Timers of the yardsticks and of a block, made ready in an order of their own."""
    things = [*range(len(plan.operators), len(plan.operators) + _YARDSTICKS), *block.tolist()]
    order = np.random.default_rng((seed, len(things))).permutation(len(things))
    made = {place: plan.timer(device, things[place]) for place in track(order, "ready", total=len(order))}
    return [made[place] for place in range(len(things))]


def _seconds(plan: Plan, device: Device, rounds: int) -> float:
    """How long all will take, if it does as many multiply-adds a second as the dearest network."""
    dearest = plan.space.extremes()[1]
    layers, marks = plan.space.layers(dearest), [time.perf_counter()]
    for _ in range(2):  # the first time each operator becomes a graph
        for layer in layers:
            device.operator(layer)
        network = device.network(layers)
        marks.append(time.perf_counter())
    first, again = np.diff(marks) / (len(layers) + 1)
    macs = sum(cost.macs for _, cost in plan.operators.values()) + int(plan.space.batch(plan.archs).macs.sum())
    run = network() / 1000 / plan.space.cost(dearest).macs * macs
    return (first + again * (_SITTINGS - 1)) * (len(plan.operators) + len(plan.archs)) + run * rounds


class _Log:
    """Rounds that are done, one a line, beside the table that they are to become."""

    def __init__(self, out: Path, key: str) -> None:
        self.path, self._key = out.with_name(out.name + ".rounds.jsonl"), key

    def read(self, widths: Sequence[int]) -> list[np.ndarray]:
        """The rounds of an earlier start, of these ``widths``: ms of the yardsticks and of the block's things."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            drop_partial_line(self.path)
            lines = whole_lines(self.path)
            if not lines:
                append_line(self.path, self._key)
        except OSError as fault:
            raise LatencyError(f"cannot write to {self.path.parent}: {fault.strerror}; name another --out.") from None
        try:
            content = [json.loads(line) for line in lines] or [self._key]
            found = [np.array(row, float) for row in content[1:]]
        except (ValueError, TypeError):
            raise LatencyError(f"{self.path} is damaged; delete it.") from None
        if content[0] != self._key:
            raise LatencyError(
                f"{self.path} is an interrupted measuring of something else (space, device, settings); name another "
                "--out, or delete it."
            )
        if len(found) > len(widths) or any(len(row) != width for row, width in zip(found, widths, strict=False)):
            raise LatencyError(f"{self.path} is damaged; delete it.")
        return found

    def append(self, row: np.ndarray) -> None:
        """Keep one more round."""
        append_line(self.path, row.tolist())
