"""The final table of a run, on the split that nothing has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from cmpnas.pipeline.aligned import align, indexes_for
from cmpnas.pipeline.answers import Answers, below_the_mean
from cmpnas.pipeline.option_stages import OptionStage
from cmpnas.pipeline.options import index_options, open_options
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.pipeline.train import Finish, list_finished, load_finished, weights_key
from cmpnas.pipeline.verdicts import Bar, verdict
from cmpnas.retrieval import Scores
from cmpnas.retrieval.rejection import COVERAGES, rejection_curve, without
from cmpnas.retrieval.relevance import Relevance
from cmpnas.search.evaluator import calibrate_on, score_pair
from cmpnas.space import Arch
from cmpnas.train.embed import embed

_A_TENTH = RejectSettings(coverage=0.9)


def evaluate(path: Path, split: str = "test", *, data: str | None = None, say: Say = print) -> dict[str, Any]:
    """The final table of everything trained: homogeneous, heterogeneous, over aligned and joined indexes, and paragon.

    Of the search split only the front's pairs are repeated where finished networks learned from it (``data.finish``).
    The control of an architecture is it untrained; against the gallery it must be at chance.
    Opening the test split is noted in the run's manifest.

    Returns:
        The content of ``evaluation.SPLIT.json``. A system has a ``kind``, a ``query`` network (``q1``; ``u1`` is
        untrained, null the large model) and a ``gallery`` option, whose views a homogeneous one embeds as well (null:
        of its pictures alone).

    Raises:
        CmpnasError: nothing is trained yet, the run cannot be read, or another process works on it.
    """
    stages = Stages.of_run(path, data, say)
    with stages.run.locked():
        trained = list_finished(stages)
        if split == "test" and not trained:
            raise RunError(f"{path} has no trained query network; run: cmpnas train {path} --pick best")
        if split == "search" and stages.splits.search_is_learned:
            say("evaluate: what is finished in this run learned from the search split (data.finish); test judges it")
            trained = []
        result = _table(stages, split, trained)
        write_json(stages.run.path / f"evaluation.{split}.json", result)
    return result


@dataclass(frozen=True)
class _Asked:
    """A split, its galleries as every option indexes them, and what the large model finds there.

    Attributes:
        mflops: of the large model.
        large: its scores in each gallery; in the anchor's, those of the paragon.
        found: what the paragon finds.
        index_is_learned: finished networks learned from pictures of the gallery.
    """

    task: Protocol
    metrics: list[str]
    anchor: str
    mflops: float
    options: Mapping[str, OptionStage]
    galleries: Mapping[str, Indexed]
    large: Mapping[str, Scores]
    found: Answers
    index_is_learned: bool

    @staticmethod
    def of(stages: Stages, task: Protocol, index_is_learned: bool) -> _Asked:
        options, recipe = open_options(stages), stages.recipe
        metrics = list(dict.fromkeys([recipe.search.metric, *recipe.report]))
        galleries, large = index_options(options, task.gallery), options[recipe.gallery.name].option
        query, anchor = large.embed(task.query), recipe.gallery.name
        scores = {
            name: score_pair(query, known.gallery, task, metrics, known.rejected) for name, known in galleries.items()
        }
        found = Answers.of(scores[anchor], query, galleries[anchor], task)
        return _Asked(task, metrics, anchor, large.mflops, options, galleries, scores, found, index_is_learned)

    @property
    def paragon(self) -> Scores:
        return self.large[self.anchor]

    def score(self, query: np.ndarray, index: Indexed) -> Scores:
        return score_pair(query, index.gallery, self.task, self.metrics, index.rejected)

    def system(
        self, kind: str, query: str | None, gallery: str | None, mflops: float, scores: Scores
    ) -> dict[str, Any]:
        """One line of the table; its name calls the anchor g, as the papers do."""
        asking = "g" if query is None else query[0]
        asked = asking if gallery is None else "g" if gallery == self.anchor else gallery
        asked += " of q" if kind == "homogeneous" and gallery else "+q" if kind == "joined" else ""
        return {
            "kind": kind,
            "query": query,
            "gallery": gallery,
            "name": f"{kind:<13} M({asking},{asked})" + ("" if query is None else f"  {query}"),
            "mflops": mflops,
            "scores": {metric: scores[metric] for metric in self.metrics},
            "intervals": {metric: list(scores.interval(metric)) for metric in self.metrics},
        }


def _table(stages: Stages, split: str, trained: list[Finish]) -> dict[str, Any]:
    """Everything that a split says, of every finished network."""
    task, run = stages.splits.search if split == "search" else open_split(stages, split), stages.run
    asked = _Asked.of(stages, task, stages.splits.index_is_learned(split))
    systems = [asked.system("paragon", None, asked.anchor, asked.mflops, asked.paragon)]
    verdicts: list[dict[str, Any]] = []
    rejections: list[dict[str, Any]] = []
    controls: set[Arch] = set()
    for number, how in enumerate(trained, 1):
        of_network = _network(stages, asked, f"q{number}", how)
        for known, found in zip((systems, verdicts, rejections), of_network, strict=True):
            known += found
        if how.arch not in controls:
            controls.add(how.arch)
            scores = asked.score(_untrained(stages, how.arch, task.query), asked.galleries[asked.anchor])
            cost = stages.space.cost(how.arch).mflops
            systems.append(asked.system("untrained", f"u{number}", asked.anchor, cost, scores))
    systems += [  # a better index serves the large model too
        asked.system("large model", None, name, asked.mflops, scores)
        for name, scores in asked.large.items()
        if name != asked.anchor
    ]
    manifest = run.manifest()
    relevance = Relevance.of_task(task)
    result = {
        "recipe": run.recipe.name,
        **{key: manifest.get(key) for key in ("recipe_hash", "seed", "data", "versions", "machine")},
        "seconds": run.seconds(),
        "split": split,
        "queries": asked.paragon.n_queries,
        "excluded_queries": asked.paragon.n_excluded,
        "gallery_items": len(task.gallery),
        "index_is_learned": asked.index_is_learned,
        "chance": {"hit@1": relevance.chance},
        "metrics": asked.metrics,
        "systems": systems,
        "verdicts": verdicts,
        "rejections": rejections,
    }
    if split == "search":
        result["pairs"] = _repeat(stages, asked.galleries)
    return result


def _network(stages: Stages, asked: _Asked, name: str, how: Finish) -> tuple[list[dict[str, Any]], ...]:
    """Systems, verdicts and rejections of one finished network, which tables call ``name``."""
    network, mflops, task = load_finished(stages, how), stages.space.cost(how.arch).mflops, asked.task
    query, gallery, transform = embed(network, task.query), embed(network, task.gallery), align(stages, network)
    bar = Bar(asked.score(query, Indexed(gallery)), asked.paragon, asked.metrics[0], asked.mflops / mflops)
    first = asked.score(query, asked.galleries[asked.anchor])
    taught = ", which learned from this index's pictures" if asked.index_is_learned else ""
    systems, verdicts, rejections = [], [], []
    own = [asked.system("homogeneous", name, None, mflops, bar.own)]
    for option, known in asked.galleries.items():
        here = option == asked.anchor
        pair = first if here else asked.score(query, known)
        against = {} if here else {"anchor": first, "large": asked.large[option]}
        of_option = asked.options[option].settings
        if isinstance(of_option, ViewsSettings):  # so could the network's own gallery be
            seen = embed_views(UnitEncoder(network), of_option, task.gallery)
            against["views"] = asked.score(query, Indexed(seen))
            own.append(asked.system("homogeneous", name, option, mflops, against["views"]))
        told = f"{name} = {how.name(stages.recipe)}" + taught + ("" if here else f" against {option}")
        about = {"query": name, "id": how.arch.id, "key": weights_key(stages, how), "gallery": option}
        for kind, index in indexes_for(known, transform, gallery).items():
            as_it_is = kind == "heterogeneous"
            scores = pair if as_it_is else asked.score(query, index)
            systems.append(asked.system(kind, name, option, mflops, scores))
            below = below_the_mean(Answers.of(scores, query, index, task), asked.found, asked.metrics)
            said = verdict(
                told + ("" if as_it_is else f", {kind}"), scores, bar, against if as_it_is else {"plain": pair}
            )
            verdicts.append(about | {"kind": kind} | said | {"below": below})
        if known.distance is not None:
            rejections.append({"query": name, "gallery": option} | _rejection(query, known, task, bar.metric))
    return systems + own, verdicts, rejections


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
    """The ``test`` split, which is noted in the manifest, or the ``search`` split, to judge finished networks.

    Raises:
        RunError: they learned from pictures of it.
    """
    if split == "search" and stages.splits.search_is_learned:
        raise RunError(
            "the networks finished in this run learned from pictures of the search split (data.finish), which is no "
            "judge of them; use --split test, or leave data.finish out and train them anew."
        )
    stages.run.note_opened(split)
    return stages.splits.test if split == "test" else stages.splits.search
