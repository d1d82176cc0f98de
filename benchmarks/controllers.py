"""How many evaluations does each controller need?

    python benchmarks/controllers.py RUN [RUN ...] [--seeds 20] [--trials 250] [--controller NAME ...]
        [--budget-mflops F] [--out FILE]
    python benchmarks/controllers.py --overhead SPACE [--trials 10000] [--evaluation-seconds F] [--controller NAME ...]

Each RUN holds records of many architectures, on which searches are replayed (`cmpnas replay`): the share of the
hypervolume of all records by evaluation, median and quartiles over seeds. Beside our controllers stand two searches as
a user of Optuna writes them in twenty lines, NSGA-II (for four times the trials) and TPE with a constraint on cost;
what breaks the budget is given to them for nothing, what they repeat is evaluated again, as they do. "random feasible"
draws from the records without repetition. At the end of each line: after how many evaluations the median has what
plain NSGA-II has at its end, and processor seconds of the controller for one search.

With --overhead the controllers search a whole space with a made-up score: processor seconds for all trials, and their
share of what the evaluations would take.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import torch
import typer
from command import as_command

from cmpnas.cost import Budget
from cmpnas.pipeline.replay import read_recording
from cmpnas.report.replay import milestones
from cmpnas.search.controllers import CONTROLLERS, find_controller, make_controller
from cmpnas.search.replay import Recording, Search
from cmpnas.space import load_space

_PLAIN = {
    "plain NSGA-II": lambda seed, population: optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
    "plain TPE": lambda seed, population: optuna.samplers.TPESampler(seed=seed),
}
_SHOWN_AS = {"exhaustive": "random feasible"}
_LONGER = {"plain NSGA-II": 4, "plain TPE": 1}  # times the trials
_USELESS = 10  # proposals of a plain search for each evaluation, at most


def main(
    runs: Annotated[list[Path] | None, typer.Argument()] = None,
    seeds: int = 20,
    trials: int = 250,
    controllers: Annotated[list[str] | None, typer.Option("--controller")] = None,
    budget_mflops: float | None = None,
    population: int = 40,
    overhead: str | None = None,
    evaluation_seconds: float = 0.3,
    out: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = controllers or [*CONTROLLERS, *_PLAIN]
    if overhead:
        measure_overhead(overhead, names, trials, population, evaluation_seconds)
    results = {}
    for run in runs or []:
        whole = read_recording(run)[0]
        recording = within(whole, budget_mflops)
        some = min(trials, len(recording.archs))
        results[str(run)] = compare(recording, whole, names, some, seeds, population)
        report(recording, results[str(run)])
    if out:
        out.write_text(json.dumps(results, indent=2))


def within(recording: Recording, budget_mflops: float | None) -> Recording:
    """What of a recording fits the budget."""
    rows = np.flatnonzero(recording.costs <= (budget_mflops or np.inf))
    archs = [recording.archs[row] for row in rows.tolist()]
    return Recording(recording.space, archs, recording.costs[rows], recording.scores[rows])


def compare(
    recording: Recording, whole: Recording, names: list[str], trials: int, seeds: int, population: int
) -> dict[str, Any]:
    """By controller: quartiles of the shares by evaluation, and seconds."""
    found = {}
    for name in names:
        if name in _PLAIN:
            some = _LONGER[name] * trials
            searches = [plain(recording, whole, _PLAIN[name](seed, population), some) for seed in range(seeds)]
        else:
            size = 50 if name == "spos" else population  # the paper's
            maker = find_controller(name)
            searches = [recording.search(maker, trials, population=size, seed=seed) for seed in range(seeds)]
        found[name] = {
            "shares": np.quantile([one.shares for one in searches], [0.25, 0.5, 0.75], axis=0).tolist(),
            "seconds": float(np.median([one.seconds for one in searches])),
        }
        print(f"  {name}: done", flush=True)
    return {"trials": trials, "seeds": seeds, "controllers": found}


def plain(recording: Recording, whole: Recording, sampler: optuna.samplers.BaseSampler, trials: int) -> Search:
    """What a user writes: suggest every decision, compute the cost, constrain it, report score and cost."""
    rows = {arch: row for row, arch in enumerate(recording.archs)}
    costs = dict(zip(whole.archs, whole.costs.tolist(), strict=True))
    budget = recording.span[1]
    asked: list[int] = []
    start = time.process_time()
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(_USELESS * trials):
        if len(asked) == trials:
            break
        trial = study.ask()
        choices = {name: trial.suggest_categorical(name, values) for name, values in whole.space.decisions.items()}
        arch = whole.table.nearest(choices)  # type: ignore[arg-type]
        trial.set_constraint("budget", costs[arch] - budget)
        row = rows.get(arch)
        if row is not None:
            asked.append(row)
        study.tell(trial, [0.0 if row is None else float(recording.scores[row]), costs[arch]])
    seconds = time.process_time() - start
    return Search(np.array(asked), recording.shares(np.array(asked), trials), seconds)


def report(recording: Recording, result: dict[str, Any]) -> None:
    found = result["controllers"]
    low, high = recording.span
    print(
        f"{len(recording.archs):,} architectures of {recording.space.name}, {low:.4g} to {high:.4g} MFLOPs; "
        f"{result['seeds']} seeds; share of the hypervolume after evaluations, median [quartiles]:"
    )
    columns = milestones(result)
    goal = found["plain NSGA-II"]["shares"][1][-1] if "plain NSGA-II" in found else None
    print(f"{'':<26}" + "".join(f"{n:>22}" for n in columns) + f"{'reaches plain':>15}{'seconds':>9}")
    for name, entry in found.items():
        lower, median, upper = entry["shares"]
        cells = "".join(f"  {median[n - 1]:.3f} [{lower[n - 1]:.3f}, {upper[n - 1]:.3f}]" for n in columns)
        after = next((n for n, share in enumerate(median, 1) if goal is not None and share >= goal), "-")
        print(f"{_SHOWN_AS.get(name, name):<26}{cells}{after:>15}{entry['seconds']:>9.2f}")
    if goal is not None:
        print(f"plain NSGA-II at its end, after {len(found['plain NSGA-II']['shares'][1])} evaluations: {goal:.3f}")


def measure_overhead(name: str, names: list[str], trials: int, population: int, evaluation_seconds: float) -> None:
    space = load_space(name)
    worth = np.random.default_rng(0).normal(size=(len(space.decisions), 1 + max(map(len, space.decisions.values()))))
    print(f"{trials} trials on {name}, an evaluation taken as {evaluation_seconds:g} s:")
    for controller_name in names:
        if controller_name in _PLAIN or controller_name == "exhaustive":
            continue
        controller = make_controller(controller_name, space, Budget(), population=population, seed=0)
        spent = 0.0
        for _ in range(trials):
            start = time.process_time()
            arch = controller.ask()
            spent += time.process_time() - start
            if arch is None:
                break
            cost = space.cost(arch).mflops
            score = worth[np.arange(len(worth)), space.genes([arch])[0]].sum() + 3 * np.log(cost)
            start = time.process_time()
            controller.tell(arch, float(score), cost)
            spent += time.process_time() - start
        share = spent / (trials * evaluation_seconds)
        print(f"  {controller_name:<26}{spent:>9.1f} s{1e3 * spent / trials:>9.2f} ms a trial{share:>8.1%}", flush=True)


if __name__ == "__main__":
    as_command(main)
