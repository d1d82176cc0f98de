"""Does leaving out what an ensemble disagrees on lower 1 - hit@1? Asked by every picture of a split.

    python benchmarks/rejection.py RUN ENSEMBLE [--split test] [--data DIR] [--out FILE]

A test of a thousand queries cannot tell half a point. So the split's queries and its gallery are one gallery here, each
picture of which asks for the others (leave one out); nothing is trained and nothing chosen. The query model is the
run's finished network that comes first by name; the tenth of the pictures with the largest distance between members
goes, and, to compare, tenths drawn by chance. Differences are paired over queries.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from command import as_command

from cmpnas.data import Protocol
from cmpnas.errors import RunError
from cmpnas.gallery.ensemble import combine, rejected
from cmpnas.gallery.option_settings import RejectSettings
from cmpnas.pipeline.evaluate import open_split
from cmpnas.pipeline.option_stages import EnsembleStage
from cmpnas.pipeline.options import find_option
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import list_finished, load_finished
from cmpnas.retrieval.rejection import rejection_curve, without
from cmpnas.train.embed import embed

METRICS = ["map_full", "hit@1"]
_A_TENTH = RejectSettings(coverage=0.9)
_DRAWS = 20


def main(run: Path, ensemble: str, split: str = "test", data: str | None = None, out: Path | None = None) -> None:
    stages = Stages.of_run(run, data, print)
    trained, stage = list_finished(stages), find_option(stages, ensemble)
    if not trained:
        raise RunError(f"{run} has no trained query network; run: cmpnas train {run} --pick best")
    if not isinstance(stage, EnsembleStage):
        raise RunError(f"gallery option {ensemble!r} of {run} is no ensemble; only its members can disagree.")
    task, network = open_split(stages, split), load_finished(stages, trained[0])
    sides = (task.query, task.gallery)
    query = np.concatenate([embed(network, side) for side in sides])
    members = {
        name: np.concatenate([member.option.embed(side, f"embed {name}") for side in sides])
        for name, member in stage.members.items()
    }
    mean, distance = combine(members, stage.settings.members)
    labels, own = np.concatenate([side.labels for side in sides]), _sources(task)
    rows = left_out((query, mean, labels, labels), distance, (own, own), _DRAWS)
    print(f"{trained[0].name(stages.recipe)}, {split} split, {len(labels)} pictures, each asks for the others")
    for row in rows:
        print(row["text"])
    if out:
        commands = [f"python benchmarks/rejection.py {run} {ensemble} --split {split}"]
        result = {"query": trained[0].name(stages.recipe), "commands": commands, "pictures": len(labels), "rows": rows}
        out.write_text(json.dumps(result, indent=1) + "\n")


def left_out(
    about: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    distance: np.ndarray,
    exclude: tuple[np.ndarray, np.ndarray] | None,
    draws: int,
) -> list[dict[str, Any]]:
    """What leaving out the most uncertain tenth does to each metric, beside tenths by chance; and risk over coverage.

    Args:
        about: queries, gallery and the labels of both, as `without` takes them.
        distance: between members, of each gallery item.
        exclude: sources.
    """
    out, n = rejected(distance, _A_TENTH)[0], len(distance)
    rows: list[dict[str, Any]] = []
    for metric in METRICS:
        gained, before = without(*about, out, metric, exclude)
        low, high = (100 * end for end in gained.interval)
        drawn = (np.random.default_rng(seed).permutation(n)[: len(out)] for seed in range(draws))
        chance = [100 * without(*about, some, metric, exclude)[0].difference for some in drawn]
        text = (
            f"the most uncertain 10% out: {metric} {before:.4f} -> {before + gained.difference:.4f}, "
            f"{100 * gained.difference:+.2f} points [{low:+.2f}, {high:+.2f}], p {gained.p_value:.4f}, "
            f"{len(gained.gained)} queries; a random 10% ({draws} draws) {np.mean(chance):+.2f}, "
            f"{min(chance):+.2f} to {max(chance):+.2f}"
        )
        rows.append({
            "text": text, "metric": metric, "before": before, "gained": gained.difference,
            "interval": gained.interval, "p": gained.p_value, "queries": len(gained.gained), "chance": chance,
        })  # fmt: skip
    curve = rejection_curve(*about, distance, exclude)
    areas = curve.areas
    return [
        *rows,
        {"text": f"risk-coverage area (coverages .5 to 1): {areas['risk']:.4f}, chance {areas['random']:.4f}, oracle "
         f"{areas['oracle']:.4f}: {100 * curve.share:.0f}% of the way", "areas": areas, "risk": curve.risk.tolist()},
    ]  # fmt: skip


def _sources(task: Protocol) -> np.ndarray:
    """Of every picture, queries first: who is no answer to whom; by default each picture alone."""
    own = task.own_sources
    return np.arange(len(task.query) + len(task.gallery)) if own is None else np.concatenate(own)


if __name__ == "__main__":
    as_command(main)
