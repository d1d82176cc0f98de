"""What an ensemble of gallery models brings to one query model: against the best single model, by kind of diversity, by
way of combining; what rejection brings; what a fifth member costs.

    python benchmarks/ensemble.py [--run RUN --pick 20x] [--split search] [--data DIR] [--folder DIR] [--out FILE]

The data are those of recipe ``grocery``, the gallery models the five ONNX files of ``pretrained``, each whitened as the
recipe whitens them all; the first is the anchor. The query model is the finished pick of RUN, a run of that recipe with
the anchor alone for a gallery; without a run, a network of 4 MFLOPs at 64 px is trained against it (seed 0, 32
epochs). Embeddings, transforms and that network are kept in FOLDER, which is of one query model. Transforms learn from
the training pictures alone; a difference is paired over queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from alone import first_alone
from command import as_command
from rejection import METRICS, left_out
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat import Anchor
from cmpnas.cost import Budget
from cmpnas.data import Items, Protocol, load_splits
from cmpnas.gallery.base import Embedded, Gallery, anchor
from cmpnas.gallery.brought import open_model
from cmpnas.gallery.ensemble import combine
from cmpnas.gallery.projection import load_projected, make_projection
from cmpnas.gallery.settings import OnnxSettings, TransformSettings
from cmpnas.gallery.transform import Transform, learn, load_transform, train_transform
from cmpnas.models.network import build_network
from cmpnas.pipeline.evaluate import open_split
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import Finish, load_finished
from cmpnas.recipe import load_recipe
from cmpnas.retrieval import Scores
from cmpnas.retrieval.compare import compare
from cmpnas.search.evaluator import calibrate_on, score_pair
from cmpnas.search.front import pick
from cmpnas.space import load_space
from cmpnas.train.embed import embed
from cmpnas.train.loop import Plan
from cmpnas.train.network import train_network

_ANCHOR = "v2_a"
_FILES = {
    "v2_a": "mobilenet_v2_imagenet_a", "v2_b": "mobilenet_v2_imagenet_b", "v1": "mobilenet_v1_imagenet",
    "v1_075": "mobilenet_v1_075_192_imagenet", "insects": "mobilenet_v2_insects",
}  # fmt: skip
_TRAIN = {"epochs": 20, "batch_size": 64, "lr": 1e-4}
_QUERY = Plan(epochs=32, batch_size=32, lr=0.004)


@dataclass
class Bench:
    """Embeddings of one split by every model, and transforms into the anchor's space, each made once."""

    split: str
    task: Protocol
    train: Items
    folder: Path
    open: Callable[[str], Gallery]

    def own(self, name: str, part: str) -> np.ndarray:
        """A model's own embeddings of ``train``, or of the split's ``gallery`` or ``query``."""
        path = self.folder / f"{name}.{part if part == 'train' else f'{self.split}.{part}'}.npy"
        if not path.exists():
            items = self.train if part == "train" else getattr(self.task, part)
            np.save(path, self.open(name).embed(items, f"embed {name}"))
        return np.load(path)

    @property
    def anchor(self) -> Anchor:
        known = self.own(_ANCHOR, "train")
        return anchor(self.open(_ANCHOR), Embedded(known, known, known), self.train, self.train)

    def mapped(self, name: str, seed: int = 0, kind: str = "parallel") -> np.ndarray:
        """A model's gallery in the anchor's space, which for the anchor is its own."""
        if name == _ANCHOR and not seed:
            return self.own(name, "gallery")
        return self._through(f"{name}-{kind}-{seed}", (name,), seed, kind)

    def concatenated(self, names: tuple[str, ...]) -> np.ndarray:
        """One transform of all models' embeddings side by side."""
        return self._through("+".join(names), names, 0, "parallel")

    def end_to_end(self, names: tuple[str, ...]) -> np.ndarray:
        """The mean of transforms that were trained together, for their mean."""
        parts = [self.own(name, "train") for name in names]
        torch.manual_seed(0)
        mean = Mean([part.shape[1] for part in parts], parts, self.anchor.embeddings.numpy())
        path, settings = self.folder / f"{'+'.join(names)}.mean.pt", transform_settings("parallel", 0)
        if not path.exists():
            learn("mean", mean, settings, np.concatenate(parts, 1), self.anchor, self.folder / "checkpoint.pt")
            (self.folder / "checkpoint.pt").unlink()
            torch.save(mean.state_dict(), path)
        mean.load_state_dict(torch.load(path))
        gallery = torch.from_numpy(np.concatenate([self.own(name, "gallery") for name in names], 1))
        with torch.no_grad():
            return F.normalize(mean.eval()(gallery)).numpy()

    def _through(self, called: str, names: tuple[str, ...], seed: int, kind: str) -> np.ndarray:
        source, gallery = (
            np.concatenate([self.own(name, part) for name in names], 1) / np.sqrt(len(names))
            for part in ("train", "gallery")
        )
        path, settings = self.folder / f"{called}.pt", transform_settings(kind, seed)
        if not path.exists():
            train_transform(called, settings, source, self.anchor, path)
        return load_transform(settings, source.shape[1], self.anchor.embeddings.shape[1], path).apply_to(gallery)


class Mean(nn.Module):
    """The mean of unit vectors of several transforms, each of its part of the input."""

    def __init__(self, widths: list[int], sources: list[np.ndarray], target: np.ndarray) -> None:
        super().__init__()
        self.widths = widths
        parts = [Transform("parallel", width, target.shape[1]) for width in widths]
        for part, source in zip(parts, sources, strict=True):
            part.start_at(source, target)
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        inputs = x.split(self.widths, 1)
        return torch.stack([F.normalize(part(own)) for part, own in zip(self.parts, inputs, strict=True)]).mean(0)


def transform_settings(kind: str, seed: int) -> TransformSettings:
    return TransformSettings.model_validate({"kind": kind, "seed": seed, "train": _TRAIN})


def main(
    run: Path | None = None,
    pick_: str = typer.Option("best", "--pick"),
    split: str = "search",
    data: str | None = None,
    folder: Path = Path("runs/ensemble"),
    out: Path | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe("grocery")
    splits = load_splits(recipe.data, data)
    stages = Stages.of_run(run, data, print) if run else None
    opened: dict[str, Gallery] = {_ANCHOR: stages.gallery} if stages else {}

    def open_once(name: str) -> Gallery:
        if name not in opened:
            plan = first_alone(recipe).projection
            file = f"pretrained/{_FILES[name]}.onnx"
            settings = OnnxSettings(kind="onnx", name=name, file=file, projection=plan)
            model, own = open_model(settings, recipe.data, data), folder / name
            if not (own / "model.pt").exists():
                make_projection(settings, plan, model, splits.train, own, seed=0)  # type: ignore[arg-type]
            opened[name] = load_projected(settings, plan, model, own)  # type: ignore[arg-type]
        return opened[name]

    given = splits.test if split == "test" else splits.search
    task = open_split(stages, split) if stages else given
    bench = Bench(split, task, splits.train, folder, open_once)
    query, mflops = found(stages, pick_, task) if stages else small(bench, data)
    tables = measure(bench, query)
    print(f"grocery, {split} split, query model of {mflops:.2f} MFLOPs, anchor {_ANCHOR}; map_full, hit@1")
    for title, rows in tables.items():
        print(title)
        for row in rows:
            print("  " + row["text"])
    if out:
        out.write_text(json.dumps({"split": split, "query_mflops": mflops, "tables": tables}, indent=1) + "\n")


def found(stages: Stages, pick_: str, task: Protocol) -> tuple[np.ndarray, float]:
    """Query embeddings of a run's finished pick."""
    if _FILES[_ANCHOR] not in getattr(stages.recipe.gallery, "file", ""):
        raise typer.BadParameter(f"the gallery of this run is not {_FILES[_ANCHOR]}.onnx alone")
    arch = stages.space.from_json(pick(stages.run.read_front(), pick_)["query"]["arch"])
    network = load_finished(stages, Finish.by(stages.recipe, arch))
    return embed(network, task.query), stages.space.cost(arch).mflops


def small(bench: Bench, data: str | None) -> tuple[np.ndarray, float]:
    """Query embeddings of a network trained alone against the anchor."""
    recipe = load_recipe("grocery", ["data.size=64"])
    splits = load_splits(recipe.data, data)
    space = load_space("mobile_small", size=64, embedding_dim=bench.anchor.embeddings.shape[1])
    arch = space.nearest(dict(space.extremes()[1].choices), Budget(mflops=4))
    torch.manual_seed(0)
    network, path = build_network(space, arch), bench.folder / "small.pt"
    if not path.exists():
        train_network(
            network, bench.anchor, {"regression": 10, "csd": 4}, splits.train, _QUERY,
            augmentation=recipe.query.augment, seed=0, saved=bench.folder / "small.checkpoint.pt",
        )  # fmt: skip
        calibrate_on(network, splits.train, 512)
        torch.save(network.state_dict(), path)
    network.load_state_dict(torch.load(path))
    task = splits.test if bench.split == "test" else splits.search
    return embed(network.eval(), task.query), space.cost(arch).mflops


def measure(bench: Bench, query: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    singles = {name: bench.mapped(name) for name in _FILES}

    def scored(gallery: np.ndarray) -> Scores:
        return score_pair(query, gallery, bench.task, METRICS)

    def mean(*names: str) -> np.ndarray:
        return combine({name: singles[name] for name in names})[0]

    alone = {f"{name} alone": scored(vectors) for name, vectors in singles.items()}
    best = max(alone, key=lambda name: alone[name]["map_full"])
    order = ("v2_a", "v1", "v2_b", "v1_075", "insects")
    growing = {" + ".join(order[:n]): scored(mean(*order[:n])) for n in (2, 3, 4, 5)}
    copies = {str(seed): bench.mapped("v2_b", seed) for seed in (0, 1, 2)}
    diverse = {
        "v2_b, one transform": scored(singles["v2_b"]),
        "v2_b, three transforms": scored(combine(copies)[0]),
        "three models of one architecture (v2_a, v2_b, insects)": scored(mean("v2_a", "v2_b", "insects")),
        "three models of ImageNet, two architectures (v2_b, v1, v1_075)": scored(mean("v2_b", "v1", "v1_075")),
        "three models of ImageNet, with the anchor (v2_a, v2_b, v1)": scored(mean("v2_a", "v2_b", "v1")),
    }
    three = ("v1", "v2_b", "v1_075")
    combined = {
        "independent transforms, then the mean": scored(mean(*three)),
        "transforms trained for their mean": scored(bench.end_to_end(three)),
        "one transform of the concatenation": scored(bench.concatenated(three)),
    }
    kinds = {kind: scored(bench.mapped("v1", kind=kind)) for kind in ("linear", "parallel", "wide", "sequential")}
    anchors = score_pair(bench.own(_ANCHOR, "query"), singles[_ANCHOR], bench.task, METRICS)
    return {
        f"paragon M(g,g): map_full {anchors['map_full']:.4f}, hit@1 {anchors['hit@1']:.4f}; single galleries": [
            row(name, scores) for name, scores in alone.items()
        ],
        f"ensembles, minus the best single ({best})": [row(n, s, alone[best]) for n, s in growing.items()],
        "kinds of diversity, minus one transform": [
            row(n, s, diverse["v2_b, one transform"]) for n, s in diverse.items()
        ],
        "combining v1, v2_b and v1_075, minus the mean": [
            row(n, s, combined["independent transforms, then the mean"]) for n, s in combined.items()
        ],
        "transforms of v1, minus the linear one": [row(n, s, kinds["linear"]) for n, s in kinds.items()],
        "rejection by the disagreement of four": rejection(bench, query, {name: singles[name] for name in order[:4]}),
        "a fifth member": [fifth(singles, order)],
    }


def row(name: str, scores: Scores, base: Scores | None = None) -> dict[str, Any]:
    """One line: scores with intervals, and paired differences to ``base`` in points."""
    parts: list[str] = []
    content: dict[str, Any] = {"system": name}
    for metric in METRICS:
        low, high = scores.interval(metric)
        told = f"{scores[metric]:.4f} [{low:.4f}, {high:.4f}]"
        content[metric] = [scores[metric], low, high]
        if base is not None and base is not scores:
            gain = compare(scores, base, metric)
            low, high = (100 * value for value in gain.interval)
            told += f" ({100 * gain.difference:+.2f} [{low:+.2f}, {high:+.2f}])"
            content[f"{metric} gained"] = [gain.difference, *gain.interval]
        parts.append(told)
    return {"text": f"{name:<64} {'  '.join(parts)}", **content}


def rejection(bench: Bench, query: np.ndarray, members: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    mean, distance = combine(members)
    task = bench.task
    return left_out((query, mean, task.query.labels, task.gallery.labels), distance, task.own_sources, draws=5)


def fifth(singles: dict[str, np.ndarray], order: tuple[str, ...]) -> dict[str, Any]:
    """The mean of five from stored vectors, and whether it is what it would have been from the start."""
    later = combine({name: singles[name] for name in order})[0]
    start = combine({name: singles[name] for name in reversed(order)})[0]
    far = float(np.abs(later - start).max())
    return {"text": f"added to four, against five from the start in another order: at most {far:.1e} apart", "far": far}


if __name__ == "__main__":
    as_command(main)
