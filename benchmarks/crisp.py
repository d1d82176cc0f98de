"""What the parts of a text run are worth: learned pooling, distillation, searching its encoder, weighing both scores.

    python benchmarks/crisp.py RUN [--seeds 3] [--epochs F] [--data DIR] [--out FILE]

RUN is a text run whose encoder is finished. With its regions and its fine model, coarse models are trained alone, each
from scratch and all alike: as the recipe has it (``found``), with equal weights in place of learned ones on both sides
(``mean``), without following the fine model (``alone``), and with the fixed encoder nearest in cost (``fixed``: a
transformer of two equal layers, two heads, ratio two, the whole vocabulary, as wide as its cost allows, and never
cheaper where there is a choice; not in a space without transformers). Where pictures are the fine model's summaries,
``mean`` is of words alone, and ``learned`` is with pictures whose pooling learns with the texts, as it does for
``alone``. Scores are of the search split; differences are paired over queries, averaged over the seeds first. What is
trained stays in RUN/ablation and is not trained again.

Then the finished encoder's cascades by three mixes of both scores: the fine one alone, the coarse one weighed beside it
(learned from one half of the queries, measured on the other), and mean ranks. And how well few queries plan: the number
of candidates that comes within half or a quarter of a point by chances, as planned, and by counting hits; how often
that is more than half a point below the scan, by all queries of the split.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from command import as_command

from cmpnas.files import read_json, write_json
from cmpnas.models.network import build_network
from cmpnas.pipeline.crisp.fine import fine_table
from cmpnas.pipeline.crisp.finish import Searcher, picked
from cmpnas.pipeline.crisp.search import relevant
from cmpnas.pipeline.crisp.stages import TextStages
from cmpnas.retrieval.cascade import Mix, candidates, cascade_table
from cmpnas.retrieval.compare import Comparison
from cmpnas.retrieval.planner import Measured, scan_hits
from cmpnas.retrieval.weighing import Odds
from cmpnas.space import Arch
from cmpnas.text.coarse import RegionPool
from cmpnas.text.encoding import TextEncoder
from cmpnas.text.settings import CoarseLoss, CoarseSettings
from cmpnas.text.train import CoarseTraining, vocabulary_of

_K, _MIXED = 10, (5, 10, 20, 50, 100)
_FEW, _DRAWS, _DEEPEST = (250, 1000), 50, 400
_MEASURES = ("coarse hit@1", f"coarse hit@{_K}", f"cascade {_K} hit@1")


def main(
    run: Path, seeds: int = 3, epochs: float | None = None, data: str | None = None, out: Path | None = None
) -> None:
    stages = TextStages.of_run(run, data, lambda message: typer.echo(message, err=True))
    arch, network, pool, _ = picked(stages)
    coarse = stages.recipe.coarse
    variants = {"found": (arch, coarse)}
    if "transformer" in coarse.space.mixer:
        variants["fixed"] = (fixed(stages, arch), coarse)
    if coarse.pool == "summary":  # only words are pooled by the coarse model
        learned = coarse.model_copy(update={"pool": "weighted", "loss": CoarseLoss()})
        variants["mean"] = (with_pool(stages, arch, "mean"), coarse)
        variants["learned"] = (arch, learned)
        variants["alone"] = (arch, learned.model_copy(update={"loss": CoarseLoss(distil=0)}))
    else:
        variants["mean"] = (with_pool(stages, arch, "mean"), coarse.model_copy(update={"pool": "mean"}))
        variants["alone"] = (arch, coarse.model_copy(update={"loss": coarse.loss.model_copy(update={"distil": 0})}))
    if dict(arch.choices)["pool"] == "mean":  # the search chose equal weights: compare with learned ones
        how = coarse if coarse.pool == "summary" else coarse.model_copy(update={"pool": "weighted"})
        variants["weighted"] = (with_pool(stages, arch, "weighted"), how)
    scores = {
        name: np.mean([one(stages, name, *variant, seed, epochs) for seed in range(seeds)], 0)
        for name, variant in variants.items()
    }
    result = {name: report(stages, variants[name][0], values, scores["found"]) for name, values in scores.items()}
    for name, line in result.items():
        typer.echo(f"{name:9s} {line['mflops']:7.3f} MFLOPs  {line['id']}")
        for measure in _MEASURES:
            low, high = line[measure]["interval"]
            typer.echo(
                f"    {measure:18s} {line[measure]['value']:.4f}   vs found {100 * line[measure]['difference']:+.2f} "
                f"points [{100 * low:+.2f}, {100 * high:+.2f}]"
            )
    searcher = Searcher.over(stages, "search", arch, network, pool)
    table = searcher.table(stages.pairs("search").captions)
    mixes = by_mix(table, stages)
    for k, line in mixes.items():
        parts = [
            f"{name} {one['value']:.4f} ({100 * one['difference']:+.2f} [{100 * one['interval'][0]:+.2f}, "
            f"{100 * one['interval'][1]:+.2f}])"
            for name, one in line.items()
        ]
        typer.echo(f"cascade {k:5s} {'  '.join(parts)}")
    plans = by_few(table, stages)
    for line in plans:
        typer.echo(
            f"{line['queries']:5d} queries, {100 * line['within']:.2f} points by {line['by']:7s} k {line['k'][1]:3.0f} "
            f"[{line['k'][0]:.0f}, {line['k'][2]:.0f}]   too few in {line['too_few']:.2f} of {_DRAWS}"
        )
    if out is not None:
        made_by = {"run": str(run), "seeds": seeds, "epochs": epochs}
        write_json(out, {**made_by, "variants": result, "mixes": mixes, "plans": plans})


def with_pool(stages: TextStages, arch: Arch, pool: str) -> Arch:
    """``arch`` with another pooling of words."""
    return stages.space.arch(dict(arch.choices) | {"pool": pool})


def fixed(stages: TextStages, arch: Arch) -> Arch:
    """A plain transformer of the cost of ``arch``: the cheapest one that is not cheaper, else the dearest."""
    spec, wanted = stages.recipe.coarse.space, stages.space.cost(arch).macs
    candidates = []
    for layers in spec.layers:
        for width in spec.width:
            choices: dict[str, int | float | str] = {
                "vocabulary": max(spec.vocabulary), "width": width, "mixer": "transformer", "layers": layers,
            }  # fmt: skip
            heads, ratio = min(spec.heads), min(spec.ratio, key=lambda ratio: abs(ratio - 2))
            choices |= {
                f"layer{n}.{key}": value
                for n in range(1, layers + 1)
                for key, value in (("heads", heads), ("ratio", ratio))
            }
            candidates.append(stages.space.arch(choices | {"pool": "weighted"}))
    costs = {candidate: stages.space.cost(candidate).macs for candidate in candidates}
    enough = [candidate for candidate in candidates if costs[candidate] >= wanted]
    return min(enough, key=costs.__getitem__) if enough else max(candidates, key=costs.__getitem__)


def one(
    stages: TextStages, name: str, arch: Arch, settings: CoarseSettings, seed: int, epochs: float | None
) -> np.ndarray:
    """Hits of one coarse model by query, ``(3, Q)`` in the order of ``_MEASURES``; trained unless it was."""
    recipe, folder = stages.recipe, stages.run.path / "ablation"
    plan = recipe.coarse.train if epochs is None else replace(recipe.coarse.train, epochs=epochs)
    path = folder / f"{name}.{arch.id}.{seed}.{plan.epochs:g}.json"
    if path.exists():
        return np.array(read_json(path), float)
    torch.manual_seed(seed)
    network, regions = build_network(stages.space, arch), stages.regions("train")
    own = settings.pool == "summary"
    pool = copy.deepcopy(stages.supernet[1]) if own else RegionPool(settings, regions.shape[2])
    training = CoarseTraining(
        stages.splits.train, stages.texts, regions, settings.loss, stages.fine if settings.loss.taught else None,
        fine_vocabulary=max(recipe.fine.text.vocabulary), candidates=recipe.fine.negatives,
        drop=recipe.captions.drop, seed=seed,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    saved = path.with_suffix(".pt")
    training.network(network, arch, pool, plan, saved)
    pairs = stages.pairs("search")
    encode = TextEncoder(network.eval(), stages.tokeniser.limited(vocabulary_of(arch)))
    coarse, right = encode(pairs.captions) @ stages.vectors(pool.eval(), "search").T, relevant(pairs)
    _, near, fine, right = candidates(coarse, max(recipe.search.ks), coarse, fine_table(stages), right)
    first = hits_by_k(Odds.learned(near, fine, right).final(near, fine), right)
    values = np.stack([right[:, 0], right[:, :_K].any(1), first[:, _K - 1]]).astype(float)
    write_json(path, values.tolist())
    saved.unlink()
    return values


def by_mix(coarse: np.ndarray, stages: TextStages) -> dict[str, Any]:
    """Share of queries that find a right picture first, by number of candidates and mix; paired with the fine score."""
    fine, right = fine_table(stages), relevant(stages.pairs("search"))
    first = np.random.default_rng(0).permutation(len(coarse)) < len(coarse) // 2
    halves = [(first, ~first), (~first, first)]
    near = candidates(coarse, max(_MIXED), coarse, fine, right)[1:]
    weights = [Odds.learned(*(part[own] for part in near)).weight for own, _ in halves]
    lines: dict[str, Any] = {}
    for k in (k for k in _MIXED if k <= coarse.shape[1]):

        def hits(of: np.ndarray | slice, k: int = k, mix: Mix = "weighted", weight: float = 0.0) -> np.ndarray:
            best = cascade_table(coarse[of], fine[of], k, mix, weight).argmax(1)
            return np.take_along_axis(right[of], best[:, None], 1)[:, 0].astype(float)

        alone, weighed = hits(slice(None)), np.empty(len(coarse))
        for (_, other), weight in zip(halves, weights, strict=True):
            weighed[other] = hits(other, weight=weight)
        lines[str(k)] = {
            name: against(values, alone)
            for name, values in (("fine", alone), ("weighed", weighed), ("ranks", hits(slice(None), mix="ranks")))
        }
    return lines


def by_few(coarse: np.ndarray, stages: TextStages) -> list[dict[str, Any]]:
    """How many candidates some of the queries plan, ``k`` (tenth percentile, median, ninetieth), by two estimates."""
    fine, pairs = fine_table(stages), stages.pairs("search")
    right = relevant(pairs)
    rng, truth = np.random.default_rng(0), counted(coarse, fine, right)
    lines = []
    for queries in (size for size in _FEW if 2 * size <= len(coarse)):
        lost = []
        for _ in range(_DRAWS):
            own = rng.choice(len(coarse), queries, replace=False)
            few = Measured.of(coarse[own], fine[own], right[own], pairs.labels, _DEEPEST)
            lost.append((few.forgone, counted(coarse[own], fine[own], right[own])))
        for within in (0.005, 0.0025):
            for by, curves in zip(("chances", "hits"), zip(*lost, strict=True), strict=True):
                ks = np.array([np.argmax(curve <= max(within, curve.min())) + 1 for curve in curves])
                lines.append(
                    {
                        "queries": queries, "within": within, "by": by, "k": np.quantile(ks, [0.1, 0.5, 0.9]).tolist(),
                        "too_few": float(np.mean(truth[ks - 1] > 0.005)),
                    }
                )  # fmt: skip
    return lines


def hits_by_k(final: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of cascades of 1 to K candidates, which queries find a right picture first: bool ``(Q, K)``, by their scores."""
    best_right = np.maximum.accumulate(np.where(right, final, -np.inf), 1)
    best_wrong = np.maximum.accumulate(np.where(right, -np.inf, final), 1)
    hits: np.ndarray = best_right > best_wrong
    return hits


def counted(coarse: np.ndarray, fine: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """The share of hits of both scores over all pictures less those of cascades: ``(K,)``."""
    _, near, judged, right = candidates(coarse, _DEEPEST, coarse, fine, relevant)
    odds = Odds.learned(near, judged, right)
    whole = scan_hits(odds.final(coarse, fine), relevant).mean()
    lost: np.ndarray = whole - hits_by_k(odds.final(near, judged), right).mean(0)
    return lost


def against(own: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """A mean, and its paired difference from another."""
    pair = Comparison(own - other)
    return {"value": float(own.mean()), "difference": pair.difference, "interval": list(pair.interval)}


def report(stages: TextStages, arch: Arch, values: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """Means, and differences from ``base``."""
    line: dict[str, Any] = {"id": arch.id, "mflops": stages.space.cost(arch).mflops}
    line |= {name: against(own, other) for name, own, other in zip(_MEASURES, values, base, strict=True)}
    return json.loads(json.dumps(line))


if __name__ == "__main__":
    as_command(main)
