"""The final table of a run, on the split that nothing has seen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.data import Items, Protocol
from cmpnas.files import write_json
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.pipeline.train import list_finished, load_finished
from cmpnas.retrieval import Scores
from cmpnas.retrieval.compare import compare
from cmpnas.search.evaluator import calibrate_on, score_pair
from cmpnas.space import Arch
from cmpnas.train.embed import embed


def evaluate(path: Path, split: str = "test", *, data: str | None = None, say: Say = print) -> dict[str, Any]:
    """The final table of everything trained: homogeneous, heterogeneous, paragon, and a control of each architecture.

    The control is the architecture untrained; against the gallery it must be at chance.
    Opening the test split is noted in the run's manifest.

    Raises:
        CmpnasError: nothing is trained yet, or the run cannot be read.
    """
    stages = Stages.of_run(path, data, say)
    run, trained = stages.run, list_finished(stages)
    task = open_split(stages, split)
    recipe, option = run.recipe, stages.gallery
    metrics = list(dict.fromkeys([recipe.search.metric, *recipe.report]))
    g_query, g_gallery = option.embed(task.query), option.embed(task.gallery)
    paragon = score_pair(g_query, g_gallery, task, metrics)
    systems = [_system("paragon       M(g,g)", option.mflops, paragon, metrics)]
    verdicts, controls = [], {}
    for number, how in enumerate(trained, 1):
        arch, network, cost = how.arch, load_finished(stages, how), stages.space.cost(how.arch)
        query, gallery = embed(network, task.query), embed(network, task.gallery)
        pair = score_pair(query, g_gallery, task, metrics)
        own = score_pair(query, gallery, task, metrics)
        systems += [
            _system(f"heterogeneous M(q,g)  q{number}", cost.mflops, pair, metrics),
            _system(f"homogeneous   M(q,q)  q{number}", cost.mflops, own, metrics),
        ]
        if arch not in controls:
            controls[arch] = score_pair(_untrained(stages, arch, task.query), g_gallery, task, metrics)
            systems.append(_system(f"untrained     M(u,g)  u{number}", cost.mflops, controls[arch], metrics))
        name, reduction = f"q{number} = {how.name(recipe)}", option.mflops / cost.mflops
        verdicts.append(_verdict(name, arch, pair, own, paragon, recipe.search.metric, reduction))
    manifest = run.manifest()
    result = {
        "recipe": recipe.name,
        **{key: manifest.get(key) for key in ("recipe_hash", "seed", "data", "versions", "machine")},
        "seconds": run.seconds(),
        "split": split,
        "queries": paragon.n_queries,
        "excluded_queries": paragon.n_excluded,
        "gallery_items": len(task.gallery),
        "chance": {"hit@1": _chance(task)},
        "metrics": metrics,
        "systems": systems,
        "verdicts": verdicts,
    }
    write_json(run.path / f"evaluation.{split}.json", result)
    return result


def _system(name: str, mflops: float, scores: Scores, metrics: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "mflops": mflops,
        "scores": {metric: scores[metric] for metric in metrics},
        "intervals": {metric: list(scores.interval(metric)) for metric in metrics},
    }


def _verdict(
    name: str, arch: Arch, pair: Scores, own: Scores, paragon: Scores, metric: str, reduction: float
) -> dict[str, Any]:
    """Compatible or not, and how far from the paragon, with paired intervals."""
    gain, gap = compare(pair, own, metric), compare(paragon, pair, metric)
    compatible = gain.difference > 0
    text = (
        f"{name}: {'compatible' if compatible else 'NOT compatible'}"
        f"{' (a tie: the interval holds 0)' if gain.tie else ''}, "
        f"M(q,g) - M(q,q) = {100 * gain.difference:+.2f} points "
        f"[{100 * gain.interval[0]:+.2f}, {100 * gain.interval[1]:+.2f}]; "
        f"{reduction:.1f}x cheaper than the paragon, {100 * gap.difference:.2f} points below it "
        f"[{100 * gap.interval[0]:.2f}, {100 * gap.interval[1]:.2f}] in {metric}"
    )
    return {
        "id": arch.id,
        "compatible": compatible,
        "gain_interval": list(gain.interval),
        "gain_p": gain.p_value,
        "paragon_gap": gap.difference,
        "paragon_gap_interval": list(gap.interval),
        "paragon_gap_p": gap.p_value,
        "cost_reduction": reduction,
        "text": text,
    }


def _untrained(stages: Stages, arch: Arch, items: Items) -> np.ndarray:
    network = stages.untrained(arch, stages.recipe.seed)
    calibrate_on(network, stages.splits.pool, stages.recipe.search.calibration_images)
    return embed(network, items)


def _chance(task: Protocol) -> float:
    """Expected hit@1 of a random ranking."""
    labels, counts = np.unique(task.gallery.labels, return_counts=True)
    share = dict(zip(labels.tolist(), (counts / len(task.gallery)).tolist(), strict=True))
    return float(np.mean([share.get(label, 0.0) for label in task.query.labels.tolist()]))


def open_split(stages: Stages, split: str) -> Protocol:
    """The ``test`` split, which is noted in the manifest, or the ``search`` split."""
    if split != "test":
        return stages.splits.search
    manifest = stages.run.manifest()
    manifest["test_opened"].append(datetime.now(UTC).isoformat(timespec="seconds"))
    write_json(stages.run.path / "manifest.json", manifest)
    return stages.splits.test
