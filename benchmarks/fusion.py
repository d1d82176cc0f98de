"""What mixing several frozen gallery models brings to a small query model (AFF, CVPR 2023).

    python benchmarks/fusion.py [--split search|test] [--data DIR] [--folder DIR] [--seeds 3] [--only WORD ...]

Shop-shelf photos of classes that training never saw (recipe `grocery`, the official training and validation photos of
29 classes). The gallery's sources are finished ImageNet encoders of 240 to 570 MFLOPs; the weak one knows insects. The
query is the first seven convolutions of the smallest of them (53 MFLOPs, a twentieth of the gallery of three), frozen,
and a trained head: so that its features too are computed once, and every arm has the same budget and takes seconds.
Mixer and head learn together as in the paper, by labels alone and with momentum .9, unless an arm says otherwise.
Scores are heterogeneous, M(q, g), in full mAP; differences are paired over queries, averaged over the seeds first. Arms
are trained once and kept in the folder. Settings were chosen on the search split; --split test opens the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnx.shape_inference
import torch
import typer
from command import as_command
from onnx import TensorProto, helper
from onnx.utils import Extractor
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat import Anchor, Batch, CompatLoss
from cmpnas.data import Items, Protocol, Splits, load_splits
from cmpnas.data.augment import Augment
from cmpnas.data.items import blank, union
from cmpnas.data.load import data_file
from cmpnas.gallery.audition import hear
from cmpnas.gallery.bank import Bank
from cmpnas.gallery.base import coded
from cmpnas.gallery.fusion import fill_bank
from cmpnas.gallery.settings import LocalSettings, OnnxSettings
from cmpnas.gallery.sources import FeatureSource, of_brought
from cmpnas.models.mixer import MIXERS, levelled_linear
from cmpnas.recipe import Recipe, load_recipe
from cmpnas.retrieval import Scores
from cmpnas.retrieval.compare import Comparison
from cmpnas.search.evaluator import score_pair
from cmpnas.train import checkpoint
from cmpnas.train.loop import Plan, fit
from cmpnas.train.mixing import Frozen, Mixing, train_mixer

_MODELS = {
    "v2": ("mobilenet_v2_imagenet_a", "t171"),
    "v1": ("mobilenet_v1_imagenet", "t81"),
    "v1_075": ("mobilenet_v1_075_192_imagenet", "t81"),
    "insects": ("mobilenet_v2_insects", "t167"),
}  # and where their last feature map is
_TRUNK = ("mobilenet_v1_075_192_imagenet", "t43")  # of the query
_METRICS = ["map_full", "hit@1"]
_DIM, _HIDDEN = 128, 256
_THREE = ("v2", "v1", "v1_075")


_PLAN = Plan(epochs=20, batch_size=64, lr=0.002)


@dataclass(frozen=True)
class Arm:
    """One way to make the gallery, and the query with it."""

    name: str
    sources: tuple[str, ...] = _THREE
    mixer: str = "transformer"
    momentum: float = 0.9
    training: str = "joint"
    loss: dict[str, float] = field(default_factory=lambda: {"influence": 1.0})
    plan: Plan = _PLAN

    @property
    def options(self) -> dict[str, int]:
        return {"layers": 1, "heads": 4, "expansion": 2} if self.mixer == "transformer" else {}


FUSION = Arm("three sources")
TOLD = replace(FUSION, name="three sources, regression too", loss={"influence": 1.0, "regression": 4.0})
ARMS = [
    FUSION,
    *(replace(FUSION, name=f"{name} alone", sources=(name,)) for name in _MODELS),
    replace(FUSION, name="two sources", sources=("v2", "v1")),
    replace(FUSION, name="three and noise", sources=(*_THREE, "noise")),
    replace(FUSION, name="three and insects", sources=(*_THREE, "insects")),
    *(replace(FUSION, name=f"three sources, momentum {a:g}", momentum=a) for a in (0.0, 0.99, 0.999)),
    *(replace(FUSION, name=f"three sources, {kind}", mixer=kind) for kind in ("mlp", "concat")),
    *(
        replace(FUSION, name=f"{name}, concat", sources=sources, mixer="concat")
        for name, sources in (
            ("v1 alone", ("v1",)),
            ("three and noise", (*_THREE, "noise")),
            ("three and insects", (*_THREE, "insects")),
        )
    ),
    *(replace(arm, name=f"{arm.name}, two stages", training="two_stage") for arm in (FUSION, TOLD)),
    TOLD,
    replace(FUSION, name="three and their local features", sources=(*_THREE, *(f"{name}.local" for name in _THREE))),
]


def main(
    split: str = "search",
    data: str | None = None,
    folder: Path = Path("runs/fusion"),
    seeds: int = 3,
    only: Annotated[list[str] | None, typer.Option(help="Arms named so, beside the first.")] = None,
) -> None:
    torch.set_num_threads(1)
    recipe = load_recipe("grocery", ["data.train.official_split=[0, 1]"])
    splits = load_splits(recipe.data, data)
    chosen = [arm for arm in ARMS if arm is FUSION or not only or any(word in arm.name for word in only)]
    bank, sources = features_of_learning(recipe, splits, data, folder)
    for heard in hear(bank, [*_MODELS, "noise"], splits.train):
        print(f"{heard}{'; a run leaves it out' if heard.silent else ''}")
    for arm in chosen:
        for seed in range(seeds):
            train(arm, bank, splits.pool, folder, seed)
    if split == "test":
        task = splits.test
        items = union([task.query, task.gallery])
        bank = with_noise(fill_bank(folder / "test", sources, items, splits.fingerprint), items, splits.fingerprint)
    else:
        task = splits.search
    report(chosen, bank, task, folder, seeds, split)


def features_of_learning(
    recipe: Recipe, splits: Splits, data: str | None, folder: Path
) -> tuple[Bank, list[FeatureSource]]:
    """The bank of all that arms learn from and are chosen on, and what made it."""
    folder.mkdir(parents=True, exist_ok=True)
    trunk = (folder / "trunk.onnx").absolute()
    if not trunk.exists():
        cut(data_file(recipe.data, data, f"pretrained/{_TRUNK[0]}.onnx"), _TRUNK[1], trunk)
    sources = [
        of_brought(
            OnnxSettings(kind="onnx", name=name, file=f"pretrained/{file}.onnx"),
            LocalSettings(tokens=9, output=output), recipe.data, data,
        )
        for name, (file, output) in _MODELS.items()
    ]  # fmt: skip
    sources.append(of_brought(OnnxSettings(kind="onnx", name="query", file=str(trunk)), None, recipe.data, data))
    items = union([splits.train, splits.pool, splits.search.query, splits.search.gallery])
    bank = fill_bank(folder / "learn", sources, items, splits.fingerprint)
    return with_noise(bank, items, splits.fingerprint), sources


def cut(path: Path, value: str, to: Path) -> None:
    """The part of a model before ``value``, and the mean of its map as the embedding."""
    whole = onnx.shape_inference.infer_shapes(onnx.load(path))
    model = Extractor(whole).extract_model(["x"], [value])
    pool = helper.make_node("GlobalAveragePool", [value], ["pooled"])
    model.graph.node.extend([pool, helper.make_node("Flatten", ["pooled"], ["embedding"])])
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None))
    onnx.save(model, to)


def with_noise(bank: Bank, items: Items, data: str) -> Bank:
    """The bank with a source that knows nothing: another vector for every picture, the same each time."""

    def look(items: Items, indices: np.ndarray) -> list[Tensor]:
        drawn = [np.random.default_rng([2, row]).normal(size=(1, 1024)) for row in items.rows[indices].tolist()]
        return [torch.from_numpy(np.stack(drawn).astype(np.float32))]

    noise = FeatureSource("noise", ("global",), 0.0, "noise", look)
    return fill_bank(bank.folder, [noise], items, data) and Bank.open(bank.folder)


class Query(nn.Module):
    """The head on the trunk's features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Sequential(levelled_linear(width, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _DIM))

    def forward(self, features: Tensor) -> Tensor:
        embedded: Tensor = self.head(features[:, 0])
        return embedded


def train(arm: Arm, bank: Bank, pool: Items, folder: Path, seed: int) -> None:
    """Train one arm with one seed, if it is not there yet."""
    path = kept(arm, folder, seed)
    if path.exists():
        return
    torch.manual_seed(seed)
    sources, own = bank.only(arm.sources), bank.only(["query"])
    query = Query(own.shapes[0][1])
    mixer = MIXERS[arm.mixer](sources.shapes, _DIM, **arm.options)
    classes, labels = coded(pool, pool)
    weights = F.normalize(torch.randn(len(classes), _DIM))
    start = Anchor(torch.empty(0, _DIM), labels, weights, "arcface", 16.0, 0.2)
    mixing = Mixing(mixer, lambda indices: sources.read(pool.rows[indices]), start, arm.momentum)
    teacher: Mixing | Frozen = mixing
    if arm.training == "two_stage":
        saved = path.with_suffix(".mixer.pt")
        train_mixer(arm.name, mixing, len(pool), arm.plan, seed=seed, saved=saved)
        saved.unlink()
        with torch.no_grad():
            embeddings = F.normalize(mixer(sources.read(pool.rows)))
        start = replace(start, embeddings=embeddings, classifier=F.normalize(mixing.head.weight.detach()))
        teacher = Frozen(start)
    loss = CompatLoss(arm.loss, start)

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        gallery, known, total = teacher(indices, view, images.device)
        embedded = query(own.read(pool.rows[indices.numpy()])[0])
        return total + loss(Batch(embedded, gallery, known))

    together, saved = nn.ModuleDict({"query": query, "loss": loss, "teacher": teacher}), path.with_suffix(".part.pt")
    fit(
        arm.name, together, loss_at, blank(len(pool)), arm.plan,
        augmentation=Augment(), seed=seed, saved=saved, after_step=lambda: teacher.lead(loss),
    )  # fmt: skip
    checkpoint.save({"query": query.state_dict(), "mixer": mixer.state_dict()}, path)
    saved.unlink()
    print(f"trained: {arm.name}, seed {seed}", flush=True)


def kept(arm: Arm, folder: Path, seed: int) -> Path:
    return folder / "arms" / f"{arm.name.replace(' ', '_').replace(',', '')}.{seed}.pt"


@torch.no_grad()
def score(arm: Arm, bank: Bank, task: Protocol, folder: Path, seed: int) -> tuple[Scores, Scores]:
    """M(q, g) and M(g, g)."""
    sources, own = bank.only(arm.sources), bank.only(["query"])
    query, mixer = Query(own.shapes[0][1]), MIXERS[arm.mixer](sources.shapes, _DIM, **arm.options)
    state, path = checkpoint.load(kept(arm, folder, seed)), kept(arm, folder, seed)
    checkpoint.restore(query, state, "query", path, arm.name)
    checkpoint.restore(mixer, state, "mixer", path, arm.name)
    asked = F.normalize(query(own.read(task.query.rows)[0])).numpy()
    mixed_query, mixed = (
        F.normalize(mixer.eval()(sources.read(side.rows))).numpy() for side in (task.query, task.gallery)
    )
    return score_pair(asked, mixed, task, _METRICS), score_pair(mixed_query, mixed, task, _METRICS)


def report(arms: list[Arm], bank: Bank, task: Protocol, folder: Path, seeds: int, split: str) -> None:
    """The table: every arm against the three sources, those of one linear map against that of the three."""
    found = {arm.name: [score(arm, bank, task, folder, seed) for seed in range(seeds)] for arm in arms}
    print(f"{split} split: {len(task.query)} queries, {len(task.gallery)} gallery pictures, {seeds} seeds")
    print(f"{'':<43}{'M(q,g) mAP':>11}{'hit@1':>8}{'M(g,g) mAP':>12}   mAP of three sources minus this, points")
    linear = found.get("three sources, concat", [])
    for arm in arms:
        pairs = found[arm.name]
        first = linear if arm.mixer == "concat" and pairs is not linear else found[FUSION.name]
        numbers = [np.mean([pair[0][metric] for pair in pairs]) for metric in _METRICS]
        row = f"{arm.name:<43}{numbers[0]:>11.3f}{numbers[1]:>8.3f}{np.mean([p[1]['map_full'] for p in pairs]):>12.3f}"
        print(row + told(first, pairs))


def told(reference: list[tuple[Scores, Scores]], pairs: list[tuple[Scores, Scores]]) -> str:
    """The paired difference and its interval."""
    if reference is pairs or not reference:
        return ""
    gained = [a[0].per_query("map_full") - b[0].per_query("map_full") for a, b in zip(reference, pairs, strict=True)]
    difference = Comparison(np.mean(gained, 0))
    low, high = difference.interval
    return f"   {100 * difference.difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


if __name__ == "__main__":
    as_command(main)
