"""Exporting the query network of one pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.data.images import to_float
from cmpnas.export.bundle import export_bundle
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.pipeline.train import Finish, load_finished
from cmpnas.retrieval import GalleryIndex
from cmpnas.run import RunFolder
from cmpnas.search.front import pick


def export(
    path: Path, which: str, out: Path | None = None, *, data: str | None = None, say: Say = print
) -> dict[str, Any]:
    """Export the trained query network of a pick, checked against torch and the gallery index.

    Returns:
        ``{"out", "id", "check"}``.

    Raises:
        CmpnasError: the pick does not exist or is not trained, or the file fails its check.
    """
    run = RunFolder.open(path)
    chosen = pick(run.read_front(), which)
    stages = Stages.of_run(path, data, say)
    arch = stages.space.from_json(chosen["query"]["arch"])
    network = load_finished(stages, Finish.by(run.recipe, arch))
    folder = out or run.path / "export" / arch.id
    images = to_float(stages.splits.search.query.images.read(np.arange(min(64, len(stages.splits.search.query)))))
    manifest = {
        "schema": 1,
        "query": chosen["query"],
        "gallery": {**stages.gallery_summary(), "key": stages.gallery_key},
        "embedding_dim": stages.space.embedding_dim,
        "metric": "cosine",
        "input": {
            "name": "images", "dtype": "float32", "shape": ["batch", 3, stages.space.size, stages.space.size],
            "colour": "RGB", "range": [-1, 1], "resize": "whole picture, bilinear",
        },
        "output": {"name": "embedding", "dtype": "float32", "norm": 1},
        "versions": run.manifest()["versions"],
    }  # fmt: skip
    index = GalleryIndex.load(run.gallery / "index.faiss")
    check = export_bundle(network, images, index, manifest, arch.to_json(), folder)
    return {"out": str(folder), "id": arch.id, "check": check}
