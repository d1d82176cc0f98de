"""The final table of a run, on the split that nothing has seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from cmpnas.data import Items, Protocol
from cmpnas.errors import RunError
from cmpnas.export.pictures import UnitEncoder
from cmpnas.files import write_json
from cmpnas.gallery.base import Indexed
from cmpnas.gallery.ensemble import rejected
from cmpnas.gallery.option_settings import RejectSettings, ViewsSettings
from cmpnas.gallery.views import embed_views
from cmpnas.pipeline.aligned import align
from cmpnas.pipeline.options import index_options, open_options
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.pipeline.train import list_finished, load_finished, weights_key
from cmpnas.retrieval import Scores
from cmpnas.retrieval.compare import compare
from cmpnas.retrieval.rejection import COVERAGES, rejection_curve, without
from cmpnas.retrieval.relevance import Relevance
from cmpnas.search.evaluator import calibrate_on, score_pair
from cmpnas.space import Arch
from cmpnas.train.embed import embed

_AGAINST = {
    "plain": "the same index as it is",
    "anchor": "the anchor's index",
    "large": "the large model in the same index",
    "views": "itself in its own gallery of such views",
}
_A_TENTH = RejectSettings(coverage=0.9)


def evaluate(path: Path, split: str = "test", *, data: str | None = None, say: Say = print) -> dict[str, Any]:
    """The final table of everything trained: homogeneous, heterogeneous, over aligned indexes, paragon, and controls.

    The control of an architecture is it untrained; against the gallery it must be at chance.
    Opening the test split is noted in the run's manifest.

    Raises:
        CmpnasError: nothing is trained yet, or the run cannot be read.
    """
    stages = Stages.of_run(path, data, say)
    run, trained = stages.run, list_finished(stages)
    if split == "test" and not trained:
        raise RunError(f"{path} has no trained query network; run: cmpnas train {path} --pick best")
    task, options = open_split(stages, split), open_options(stages)
    recipe, anchor = run.recipe, stages.recipe.gallery.name
    metrics = list(dict.fromkeys([recipe.search.metric, *recipe.report]))
    galleries = index_options(options, task.gallery)
    option = options[anchor].option
    asked = option.embed(task.query)
    large = {
        called: score_pair(asked, known.gallery, task, metrics, known.rejected) for called, known in galleries.items()
    }
    paragon = large[anchor]
    systems = [_system("paragon       M(g,g)", option.mflops, paragon, metrics)]
    verdicts, controls, rejections = [], {}, []
    for number, how in enumerate(trained, 1):
        arch, network, cost = how.arch, load_finished(stages, how), stages.space.cost(how.arch)
        query, gallery, aligned = embed(network, task.query), embed(network, task.gallery), align(stages, network)
        own = score_pair(query, gallery, task, metrics)
        systems_of_own = [_system(f"homogeneous   M(q,q)  q{number}", cost.mflops, own, metrics)]
        name, reduction = f"q{number} = {how.name(recipe)}", option.mflops / cost.mflops
        key = weights_key(stages, how)
        first = None
        for called, known in galleries.items():
            pair = score_pair(query, known.gallery, task, metrics, known.rejected)
            first = first or pair
            shown = "g" if called == anchor else called
            turned = score_pair(query, aligned.apply_to(known.gallery), task, metrics, known.rejected)
            for kind, scores in (("heterogeneous", pair), ("aligned", turned)):
                systems.append(_system(f"{kind:<13} M(q,{shown})  q{number}", cost.mflops, scores, metrics))
            told = name if called == anchor else f"{name} against {called}"
            against = {"anchor": first, "large": large[called]} if called != anchor else {}
            of_option = options[called].settings
            if isinstance(of_option, ViewsSettings):  # so could the network's own gallery be
                seen = embed_views(UnitEncoder(network), of_option, task.gallery)
                against["views"] = score_pair(query, seen, task, metrics)
                shown = f"homogeneous   M(q,{called} of q)  q{number}"
                systems_of_own.append(_system(shown, cost.mflops, against["views"], metrics))
            about = arch, own, paragon, recipe.search.metric, reduction
            verdicts.append(_verdict(told, called, pair, against, *about) | {"key": key})
            over = _verdict(f"{told}, aligned", called, turned, {"plain": pair}, *about)
            verdicts.append(over | {"key": key, "aligned": True})
            if known.distance is not None:
                found = _rejection(query, known, task, recipe.search.metric)
                rejections.append({"query": f"q{number}", "gallery": called} | found)
        systems += systems_of_own
        if arch not in controls:
            untrained = _untrained(stages, arch, task.query)
            controls[arch] = score_pair(untrained, galleries[anchor].gallery, task, metrics)
            systems.append(_system(f"untrained     M(u,g)  u{number}", cost.mflops, controls[arch], metrics))
    systems += [  # a better index serves the large model too
        _system(f"large model   M(g,{called})", option.mflops, scores, metrics)
        for called, scores in large.items()
        if called != anchor
    ]
    manifest = run.manifest()
    relevance = Relevance.of_labels(
        task.query.labels, task.gallery.labels, task.own_sources, len(task.query), len(task.gallery)
    )
    result = {
        "recipe": recipe.name,
        **{key: manifest.get(key) for key in ("recipe_hash", "seed", "data", "versions", "machine")},
        "seconds": run.seconds(),
        "split": split,
        "queries": paragon.n_queries,
        "excluded_queries": paragon.n_excluded,
        "gallery_items": len(task.gallery),
        "chance": {"hit@1": relevance.chance},
        "metrics": metrics,
        "systems": systems,
        "verdicts": verdicts,
        "rejections": rejections,
    }
    if split == "search":
        result["pairs"] = _repeat(stages, galleries)
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
    name: str,
    gallery: str,
    pair: Scores,
    against: Mapping[str, Scores],
    arch: Arch,
    own: Scores,
    paragon: Scores,
    metric: str,
    reduction: float,
) -> dict[str, Any]:
    """Compatible or not, and how far from the paragon and what it is set ``against``, with paired intervals."""
    gain, gap = compare(pair, own, metric), compare(paragon, pair, metric)
    others = {name: compare(pair, other, metric) for name, other in against.items()}
    to_paragon = _apart(-gap.difference, (-gap.interval[1], -gap.interval[0]), "it")
    compatible = gain.difference > 0
    text = (
        f"{name}: {'compatible' if compatible else 'NOT compatible'}"
        f"{' (a tie: the interval holds 0)' if gain.tie else ''}, "
        f"M(q,g) - M(q,q) = {100 * gain.difference:+.2f} points "
        f"[{100 * gain.interval[0]:+.2f}, {100 * gain.interval[1]:+.2f}]; "
        f"{reduction:.1f}x cheaper than the paragon and {to_paragon} in {metric}"
    )
    text += "".join(f"; {_apart(over.difference, over.interval, _AGAINST[name])}" for name, over in others.items())
    return {
        "id": arch.id,
        "gallery": gallery,
        "compatible": compatible,
        "gain_interval": list(gain.interval),
        "gain_p": gain.p_value,
        "paragon_gap": gap.difference,
        "paragon_gap_interval": list(gap.interval),
        "paragon_gap_p": gap.p_value,
        "cost_reduction": reduction,
        **{f"over_{name}": over.difference for name, over in others.items()},
        **{f"over_{name}_interval": list(over.interval) for name, over in others.items()},
        "text": text,
    }


def _apart(above: float, interval: tuple[float, float], other: str) -> str:
    """How far above or below ``other`` something is, in points, with the interval of that distance."""
    low, high = interval if above >= 0 else (-interval[1], -interval[0])
    word, low, high = "above" if above >= 0 else "below", 100 * low, 100 * high
    return f"{100 * abs(above):.2f} points {word} {other} [{low:.2f}, {high:.2f}]"


def _rejection(query: np.ndarray, known: Indexed, task: Protocol, metric: str) -> dict[str, Any]:
    """What leaving out the images that an ensemble disagrees on most does: those of its rule, else a tenth of all."""
    distance = cast(np.ndarray, known.distance)
    out = rejected(distance, _A_TENTH)[0] if known.rejected is None else known.rejected
    about = (query, known.gallery, task.query.labels, task.gallery.labels)
    gained, before = without(*about, out, exclude=task.own_sources)
    other, _ = without(*about, out, metric, task.own_sources)
    curve = rejection_curve(*about, distance, task.own_sources)
    return {
        "coverage": 1 - len(out) / len(distance),
        "limit": float(np.delete(distance, out).max()),
        "queries": len(gained.gained),
        "error_before": 1 - before,
        "error": 1 - before - gained.difference,
        "gain": gained.difference,
        "gain_interval": list(gained.interval),
        "metric": metric,
        "metric_gain": other.difference,
        "metric_gain_interval": list(other.interval),
        "areas": curve.areas,
        "share_of_oracle": None if np.isnan(curve.share) else curve.share,
        "curve": {"coverage": COVERAGES.tolist(), **{name: getattr(curve, name).tolist() for name in curve.areas}},
    }


def _repeat(stages: Stages, galleries: Mapping[str, Indexed]) -> dict[str, Any]:
    """Every pair of the front scored anew from weights and pictures, and how far that is from what was recorded."""
    front, evaluator = stages.run.read_front(), stages.evaluator(galleries)
    pairs = front["pairs"]
    archs = dict.fromkeys(stages.space.from_json(pair["query"]["arch"]) for pair in pairs)
    anew = {arch.id: evaluator(n, arch) for n, arch in enumerate(archs)}
    far = [
        abs(
            anew[pair["query"]["id"]].galleries[pair["gallery"]["name"]].heterogeneous - pair["scores"]["heterogeneous"]
        )
        for pair in pairs
    ]
    return {"n": len(far), "max_abs_difference": max(far, default=0.0)}


def _untrained(stages: Stages, arch: Arch, items: Items) -> np.ndarray:
    network = stages.untrained(arch, stages.recipe.seed)
    calibrate_on(network, stages.splits.pool, stages.recipe.search.calibration_images)
    return embed(network, items)


def open_split(stages: Stages, split: str) -> Protocol:
    """The ``test`` split, which is noted in the manifest, or the ``search`` split."""
    stages.run.note_opened(split)
    return stages.splits.test if split == "test" else stages.splits.search
