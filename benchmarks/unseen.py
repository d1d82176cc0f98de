"""What lets a small network follow a finished encoder to classes that nobody trained on? Asked in closed form.

    python benchmarks/unseen.py [--recipe emoji] [--other grocery] [--set KEY=VALUE ...] [--data DIR]

The encoder is the first of the recipe's gallery, alone. The query network is the largest of the recipe's space with the
published weights that its supernet starts from, at several resolutions, and is not trained. Its embedding layer is a
ridge regression from its features to the gallery's embeddings of the training pictures, so that every question takes
seconds once all pictures were looked at: what the resolution costs; what views, mixtures of two pictures and pictures
of other sets add to what is learned from; what other targets do; and what a gallery mapped into the query's space
brings. Scores are full mAP and hit@1 on the search split; the ridge is the best of a few there, for every line alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, cast

import numpy as np
import torch
import typer
from alone import first_alone
from command import as_command
from torch import Tensor, nn

from cmpnas.data import Items, Protocol, load_splits
from cmpnas.data.augment import Augment, augment, draws
from cmpnas.data.images import to_float
from cmpnas.gallery.brought import open_model
from cmpnas.gallery.frozen import FrozenModel
from cmpnas.gallery.settings import WhiteningProjection
from cmpnas.gallery.whitening import whitening
from cmpnas.models.calibrate import calibrate
from cmpnas.models.network import Network
from cmpnas.models.pretrained import start_from
from cmpnas.models.supernet import Supernet
from cmpnas.pipeline.pretrained import read_pretrained
from cmpnas.recipe import Recipe, load_recipe
from cmpnas.search.evaluator import score_pair
from cmpnas.space import Arch, SearchSpace

_RESOLUTIONS = (48, 64, 96, 128)
_ASKED = 64  # px, of the questions after the first
_VIEWS, _MIXED, _SHOP = 4, 8000, 3000
_RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # in average pictures in each direction
_BATCH = 128

Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Looked:
    """Pictures as both sides see them: features ``(N, W)`` of the query network, of the gallery model."""

    query: np.ndarray
    gallery: np.ndarray

    @staticmethod
    @torch.no_grad()
    def at(batches: Iterable[Tensor], network: Network, model: FrozenModel) -> Looked:
        seen = [(network(images).numpy(), model(images).numpy()) for images in batches]
        query, gallery = (np.concatenate(side).astype(np.float64) for side in zip(*seen, strict=True))
        return Looked(query, levelled(gallery))

    def __add__(self, other: Looked) -> Looked:
        return Looked(np.concatenate([self.query, other.query]), np.concatenate([self.gallery, other.gallery]))


def main(
    recipe: str = "emoji",
    other: str = "grocery",
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    data: str | None = None,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plan = load_recipe(recipe, overrides or [])
    splits = load_splits(plan.data, data)
    alone = first_alone(plan)
    model = open_model(alone, plan.data, data)
    projection = cast(WhiteningProjection, alone.projection)
    pool, task = splits.pool, splits.search
    supernet = published(plan, pool, data)
    sides = (pool, task.query, task.gallery)
    by_gallery = [levelled(features(model, side.float_batches(_BATCH))) for side in sides]
    networks = {resolution: largest(supernet, pool, resolution) for resolution in _RESOLUTIONS}
    looked = {
        resolution: [
            Looked(features(network, side.float_batches(_BATCH)), known)
            for side, known in zip(sides, by_gallery, strict=True)
        ]
        for resolution, network in networks.items()
    }
    labelled = levelled(features(model, splits.train.float_batches(_BATCH)))
    _, labels = np.unique(splits.train.labels, return_inverse=True)

    def target(dim: int, shrinkage: float) -> Map:
        weight, bias = whitening(labelled, labels, dim, shrinkage)
        return lambda features: unit(features @ weight.T + bias)

    usual = target(projection.dim, projection.shrinkage)
    print(f"{plan.name}: {len(pool)} pictures to learn from, {len(task.query)} queries, {len(task.gallery)} to find")
    print("resolution")
    for resolution, (seen, query, gallery) in looked.items():
        mflops = supernet.space.cost(architecture(supernet.space, resolution)).mflops
        print(f"  {resolution} px, {mflops:.1f} MFLOPs: {best(task, seen, query, gallery, usual)}", flush=True)
    network, (seen, query, gallery) = networks[_ASKED], looked[_ASKED]
    print(f"  M(g,g) {told(task, usual(query.gallery), usual(gallery.gallery))}")

    print(f"other targets, {_ASKED} px")
    for dim in (32, 64, 128, 256, 512):
        for shrinkage in (0.2, 0.5, 1.0):
            wanted = target(dim, shrinkage)
            own = told(task, wanted(query.gallery), wanted(gallery.gallery))
            print(f"  {dim} numbers, shrinkage {shrinkage}: M(g,g) {own}, {best(task, seen, query, gallery, wanted)}")

    print(f"what is learned from, {_ASKED} px")
    how = plan.query.augment
    elsewhere = load_splits(load_recipe(other, [f"data.size={plan.data.size}"]).data, data).pool
    shop = load_splits(load_recipe("quickstart", [f"data.size={plan.data.size}"]).data).pool
    more = {
        f"{_VIEWS} views": views(pool, how),
        "mixtures": mixtures(pool, pool, how),
        f"pictures of {other}": elsewhere.float_batches(_BATCH),
        "pictures of a shop": shop.float_batches(_BATCH, np.arange(min(_SHOP, len(shop)))),
        f"mixtures with {other}": mixtures(pool, elsewhere, how),
    }
    print(f"  the pictures alone: {best(task, seen, query, gallery, usual)}")
    everything = seen
    for name, batches in more.items():
        added = Looked.at(batches, network, model)
        everything = everything + added
        print(f"  and {name} ({len(added.query)}): {best(task, seen + added, query, gallery, usual)}", flush=True)
    print(f"  and all of these: {best(task, everything, query, gallery, usual)}")


def published(plan: Recipe, pool: Items, data: str | None) -> Supernet:
    """The supernet with published weights, as training starts from it."""
    weights = read_pretrained(plan, data)
    if weights is None:
        raise typer.BadParameter(f"recipe {plan.name!r} names no query.pretrained")
    supernet = Supernet(plan.space())
    start_from(supernet, weights, next(pool.sample_batches(_BATCH, _BATCH)))
    return supernet


def largest(supernet: Supernet, pool: Items, resolution: int) -> Network:
    """The largest network at a resolution, up to its features."""
    network = supernet.carve(architecture(supernet.space, resolution))
    calibrate(network, pool.sample_batches(_BATCH, 4 * _BATCH))
    network[-1].linear = nn.Identity()
    return network


def architecture(space: SearchSpace, resolution: int) -> Arch:
    content = space.extremes()[1].to_json()
    return space.from_json({**content, "choices": {**content["choices"], "resolution": resolution}})


def views(pool: Items, how: Augment) -> Iterator[Tensor]:
    """Augmented views of every picture."""
    for view in range(_VIEWS):
        for start in range(0, len(pool), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(pool)))
            yield augment(to_float(pool.images.read(rows)), how, draws(torch.from_numpy(rows), view))


def mixtures(pool: Items, others: Items, how: Augment) -> Iterator[Tensor]:
    """Half of them blended, half of them with a box of another picture."""
    rng = np.random.default_rng(0)
    for _ in range(0, _MIXED, _BATCH):
        pair = [
            augment(to_float(items.images.read(rng.integers(0, len(items), _BATCH))), how, torch.rand(_BATCH, 12))
            for items in (pool, others)
        ]
        share = torch.rand(_BATCH, 1, 1, 1)
        box, side = torch.zeros_like(pair[0], dtype=torch.bool), pair[0].shape[-1]
        for row in range(0, _BATCH, 2):
            (height, width), (top, left) = rng.integers(side // 4, 7 * side // 8, 2), rng.integers(0, side // 2, 2)
            box[row, :, top : top + height, left : left + width] = True
        blended = share * pair[0] + (1 - share) * pair[1]
        boxed = torch.where(box, pair[1], pair[0])
        yield torch.where((torch.arange(_BATCH) % 2 == 0)[:, None, None, None], boxed, blended)


def best(task: Protocol, seen: Looked, query: Looked, gallery: Looked, target: Map) -> str:
    """Scores by the best ridge: against the gallery, the gallery mapped into the query's space, and its own gallery."""
    wanted, found = target(seen.gallery), []
    for ridge in _RIDGES:
        ask = regression(seen.query, wanted, ridge)
        asked, own = unit(ask(query.query)), unit(ask(gallery.query))
        mapped = regression(seen.gallery, unit(ask(seen.query)), ridge)(gallery.gallery)
        found.append([scores(task, asked, side) for side in (target(gallery.gallery), unit(mapped), own)])
    texts = (
        "{} {:.3f} / {:.3f}".format(name, *max(column))
        for name, column in zip(
            ("M(q,g)", "gallery mapped to the query", "M(q,q)"), zip(*found, strict=True), strict=True
        )
    )
    return ", ".join(texts)


def regression(source: np.ndarray, target: np.ndarray, ridge: float) -> Map:
    """The linear map whose ridge weighs as much as ``ridge`` average pictures in each direction."""
    means = source.mean(0), target.mean(0)
    x, y = source - means[0], target - means[1]
    gram = x.T @ x
    weight = np.linalg.solve(gram + ridge * np.trace(gram) / len(x) * np.eye(len(gram)), x.T @ y)
    return lambda features: (features - means[0]) @ weight + means[1]


def scores(task: Protocol, query: np.ndarray, gallery: np.ndarray) -> tuple[float, float]:
    found = score_pair(query, gallery, task, ["map_full", "hit@1"])
    return found["map_full"], found["hit@1"]


def told(task: Protocol, query: np.ndarray, gallery: np.ndarray) -> str:
    return "{:.3f} / {:.3f}".format(*scores(task, query, gallery))


@torch.no_grad()
def features(run: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> np.ndarray:
    """What a model gives, as it is: float64 ``(N, W)``."""
    return torch.cat([run(images) for images in batches]).double().numpy()


def levelled(vectors: np.ndarray) -> np.ndarray:
    """Rows of mean square 1, as projections see them."""
    found: np.ndarray = vectors / np.sqrt(np.square(vectors).mean(1, keepdims=True))
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


if __name__ == "__main__":
    as_command(main)
