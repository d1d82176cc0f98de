"""Which finished encoders, side by side, make the strongest gallery model? Whitenings by members, numbers, shrinkage.

    python benchmarks/side_by_side.py [--recipe grocery] [--data DIR]

Each encoder of ``pretrained`` looks once at the training pictures and the search split of the recipe; what follows is
closed form, as a fusion with the mixer ``whitening`` computes it. Printed are full mAP and hit@1 of M(g, g) on the
search split: of members, whitened as the recipe has it; and of the recipe's own by how many numbers and shrinkage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from command import as_command

from cmpnas.data import load_splits
from cmpnas.data.items import Items
from cmpnas.gallery.brought import BATCH, open_model
from cmpnas.gallery.settings import FusionSettings, OnnxSettings, WhiteningMixerSettings
from cmpnas.gallery.whitening import whitening
from cmpnas.recipe import load_recipe
from cmpnas.retrieval.similarity import unit_rows
from cmpnas.search.evaluator import score_pair
from cmpnas.train.embed import embed

_FILES = {
    "v2": "mobilenet_v2_imagenet_a", "v2_b": "mobilenet_v2_imagenet_b", "v1": "mobilenet_v1_imagenet",
    "v1_075": "mobilenet_v1_075_192_imagenet", "insects": "mobilenet_v2_insects",
}  # fmt: skip
_IMAGENET = ("v2", "v2_b", "v1", "v1_075")
_METRICS = ["map_full", "hit@1"]


def main(recipe: str = "grocery", data: str | None = None) -> None:
    plan = load_recipe(recipe)
    splits, gallery = load_splits(plan.data, data), plan.gallery
    assert isinstance(gallery, FusionSettings)
    assert isinstance(gallery.mixer, WhiteningMixerSettings)
    mixer = gallery.mixer
    _, labels = np.unique(splits.train.labels, return_inverse=True)
    task, mflops = splits.search, dict[str, float]()
    seen: dict[str, list[np.ndarray]] = {}
    for name, file in _FILES.items():
        settings = OnnxSettings(kind="onnx", name=name, file=f"pretrained/{file}.onnx")
        model = open_model(settings, plan.data, data)
        sides: list[Items] = [splits.train, task.query, task.gallery]
        seen[name] = [unit_rows(embed(model, side, batch_size=BATCH, what=f"embed {name}"), name) for side in sides]
        mflops[name] = model.mflops

    def score(members: Sequence[str], dim: int, shrinkage: float) -> str:
        train, query, index = (np.concatenate([seen[name][n] for name in members], 1) for n in range(3))
        weight, bias = whitening(train, labels, dim, shrinkage)
        query, index = (unit_rows(side @ weight.T + bias, "whitened") for side in (query, index))
        found = score_pair(query, index, task, _METRICS)
        return " / ".join(f"{found[metric]:.4f}" for metric in _METRICS)

    print(f"{plan.name}, search split, whitened to {gallery.embedding_dim} numbers by {mixer.shrinkage}")
    several = [members for count in range(2, 5) for members in combinations(_IMAGENET, count)]
    for members in [*((name,) for name in _FILES), *several]:
        cost = sum(mflops[name] for name in members)
        found = score(members, gallery.embedding_dim, mixer.shrinkage)
        print(f"  {' '.join(members):<28} {cost:7.1f} MFLOPs  {found}", flush=True)
    own = [source.name for source in gallery.sources]
    print(f"{' '.join(own)}, by shrinkage and numbers")
    for shrinkage in (0.1, 0.2, 0.5, 1.0):
        told = [f"{dim}: {score(own, dim, shrinkage)}" for dim in (64, 128, 256, 512)]
        print(f"  {shrinkage:g}  " + "   ".join(told), flush=True)


if __name__ == "__main__":
    as_command(main)
