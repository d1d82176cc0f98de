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
from cmpnas.errors import RunError, unknown
from cmpnas.gallery.ensemble import combine, rejected
from cmpnas.gallery.option_settings import RejectSettings
from cmpnas.pipeline.evaluate import open_split
from cmpnas.pipeline.option_stages import EnsembleStage
from cmpnas.pipeline.options import open_options
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import list_finished, load_finished
from cmpnas.retrieval.rejection import risk_coverage, without
from cmpnas.train.embed import embed

_A_TENTH = RejectSettings(coverage=0.9)
_DRAWS = 20


def main(run: Path, ensemble: str, split: str = "test", data: str | None = None, out: Path | None = None) -> None:
    stages = Stages.of_run(run, data, print)
    trained, stage = list_finished(stages), open_options(stages).get(ensemble)
    if not trained:
        raise RunError(f"{run} has no trained query network; run: cmpnas train {run} --pick best")
    if not isinstance(stage, EnsembleStage):
        raise RunError(unknown("ensemble", ensemble, [o.name for o in stages.recipe.galleries if o.kind == "ensemble"]))
    task, network = open_split(stages, split), load_finished(stages, trained[0])
    sides = (task.query, task.gallery)
    query = np.concatenate([embed(network, side) for side in sides])
    members = {
        name: np.concatenate([member.option.embed(side, f"embed {name}") for side in sides])
        for name, member in stage.members.items()
    }
    mean, distance = combine(members, stage.settings.members)
    print(f"{trained[0].name(stages.recipe)}, {split} split")
    found: dict[str, Any] = {
        "query": trained[0].name(stages.recipe),
        "commands": [f"python benchmarks/rejection.py {run} {ensemble} --split {split}"],
    }
    found |= asked_by_all(query, mean, distance, np.concatenate([side.labels for side in sides]), _sources(task))
    for line in found["text"]:
        print(line)
    if out:
        out.write_text(json.dumps(found, indent=1) + "\n")


def asked_by_all(
    query: np.ndarray, mean: np.ndarray, distance: np.ndarray, labels: np.ndarray, sources: np.ndarray
) -> dict[str, Any]:
    """hit@1 and full mAP of what remains against before, by disagreement and by chance; areas below the curves."""
    about, own = (query, mean, labels, labels), (sources, sources)
    out = rejected(distance, _A_TENTH)[0]
    rows: dict[str, Any] = {"pictures": len(labels), "rejected": len(out)}
    text = [f"{len(labels)} pictures, each asks for the others; without the {len(out)} that members disagree on most:"]
    for metric in ("hit@1", "map_full"):
        gained, before = without(*about, out, metric, own)
        low, high = (100 * end for end in gained.interval)
        drawn = [np.random.default_rng(seed).permutation(len(labels))[: len(out)] for seed in range(_DRAWS)]
        chance = [100 * without(*about, some, metric, own)[0].difference for some in drawn]
        text.append(
            f"{metric} {before:.4f} -> {before + gained.difference:.4f}, {100 * gained.difference:+.2f} points "
            f"[{low:+.2f}, {high:+.2f}], p {gained.p_value:.4f}, {len(gained.gained)} queries; "
            f"by chance {np.mean(chance):+.2f}, of {_DRAWS} draws {min(chance):+.2f} to {max(chance):+.2f}"
        )
        rows[metric] = {
            "before": before, "gained": gained.difference, "interval": list(gained.interval), "p": gained.p_value,
            "queries": len(gained.gained), "chance": chance,
        }  # fmt: skip
    curve = risk_coverage(*about, distance, own)
    areas = curve.areas
    text.append(
        f"risk-coverage area (coverages .5 to 1): {areas['risk']:.4f}, chance {areas['random']:.4f}, oracle "
        f"{areas['oracle']:.4f}: {100 * curve.share:.0f}% of the way"
    )
    return {"text": text, **rows, "areas": areas}


def _sources(task: Protocol) -> np.ndarray:
    """Of every picture, queries first: who is no answer to whom; by default each picture alone."""
    own = task.own_sources
    return np.arange(len(task.query) + len(task.gallery)) if own is None else np.concatenate(own)


if __name__ == "__main__":
    as_command(main)
