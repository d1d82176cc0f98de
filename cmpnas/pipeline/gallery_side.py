"""The gallery side of a bundle: files from pictures, and from what models said of them, to what an index stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmpnas.errors import RunError
from cmpnas.export import bundle
from cmpnas.export.gallery import in_float32, write_gallery
from cmpnas.export.graph import run_named, run_onnx, save_onnx
from cmpnas.export.join import NoGraphError
from cmpnas.export.parts import Parts, parts_of
from cmpnas.export.pictures import Pictures
from cmpnas.export.proof import SEVERAL, Judge, check_near, check_vectors
from cmpnas.files import hash_file
from cmpnas.gallery.fusion import FusionGallery
from cmpnas.pipeline.option_stages import EnsembleStage, MappedStage, OptionStage, ViewsStage
from cmpnas.pipeline.options import summary
from cmpnas.pipeline.stages import Stages
from cmpnas.train.device import device

_SOME = 64  # images of the search gallery


def write_gallery_side(
    stages: Stages, stage: OptionStage, taken: Pictures, judge: Judge, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write what there can be of an option: from pictures, and from what its models say where it combines several.

    Returns:
        By file, what was proven, and what goes in and comes out.

    Raises:
        RunError: there can be neither, or a file does not do what the option does.
    """
    option = stage.option
    parts, proof, files = parts_of(option), {}, {}
    outputs = _outputs(stage, parts)
    try:
        write_gallery(option, taken, folder / bundle.GALLERY)
    except NoGraphError as fault:
        if parts is None:
            raise RunError(f"{fault}; leave --gallery out.") from None
        stages.say(f"no {bundle.GALLERY}: {fault}. {bundle.PARTS} takes what the models say.")
    else:
        proof[bundle.GALLERY] = _prove_pictures(stage, taken, judge, folder / bundle.GALLERY)
        files[bundle.GALLERY] = {"inputs": [taken.to_json()], "outputs": outputs}
    if parts is not None:
        save_onnx(parts.graph(), folder / bundle.PARTS)
        proof[bundle.PARTS] = _prove_parts(stages, stage, parts, folder / bundle.PARTS)
        inputs = [
            {"name": name, "dtype": "float32", "shape": ["batch", *shape]} for name, shape in parts.inputs.items()
        ]
        files[bundle.PARTS] = {"inputs": inputs, "outputs": outputs}
    return proof, files


def describe_option(stages: Stages, stage: OptionStage) -> dict[str, Any]:
    """A gallery option as a manifest has it: what it costs, and the hashes of all that it was made of."""
    told = summary(stage) | {"key": stage.key, "model": _model(stages, stage)}
    if isinstance(stage, EnsembleStage):
        weights = stage.settings.members
        told["models"] = [_describe_model(stages, m) | {"weight": weights[name]} for name, m in stage.members.items()]
        if stage.settings.reject is not None:
            distance, (out, limit) = stage.indexed.distance, stage.rejects(stage.indexed.distance)  # type: ignore[arg-type]
            told["reject"] = stage.settings.reject.model_dump(mode="json", exclude_none=True)
            told["reject"] |= {"rejected": 0 if out is None else len(out), "of": len(distance), "limit": limit}  # type: ignore[arg-type]
    elif isinstance(stage, ViewsStage):
        told |= stage.settings.model_dump(mode="json", include={"views", "augment"})
    elif isinstance(stage, MappedStage):
        told["models"] = [_describe_model(stages, stage)]
    elif isinstance(stage.option, FusionGallery):
        told["models"] = [{"name": s.name, "mflops": s.mflops, "model": s.key} for s in stage.option.sources]
    return told


def _describe_model(stages: Stages, stage: OptionStage) -> dict[str, Any]:
    """One of the models that an option combines; the transform takes what it says into the anchor's space."""
    told = {"name": stage.settings.name, "kind": stage.settings.kind, "mflops": stage.option.mflops}
    transform = hash_file(stage.folder / "transform.pt") if isinstance(stage, MappedStage) else None
    return told | {"model": _model(stages, stage), "transform": transform}


def _model(stages: Stages, stage: OptionStage) -> str:
    """Hash of the file that was trained here, else the key of all that the model is made of."""
    if isinstance(stage, EnsembleStage):
        return stage.key
    own = stage.own if isinstance(stage, MappedStage) else stages
    return hash_file(own.run.gallery / "model.pt") or own.gallery_key


def _outputs(stage: OptionStage, parts: Parts | None) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = [
        {"name": "embedding", "dtype": "float32", "shape": ["batch", stage.option.embedding_dim], "norm": 1}
    ]
    if parts is not None and parts.rejects:
        told.append({"name": "distance", "dtype": "float32", "shape": ["batch"]})
    return told


def _prove_pictures(stage: OptionStage, taken: Pictures, judge: Judge, path: Path) -> dict[str, Any]:
    """The file from pictures, compared with the models here and with what the index stores."""
    items, run = judge.task.gallery, run_onnx(path)
    pictures = taken.read(items, np.arange(SEVERAL) % len(items))
    with torch.no_grad():
        ready = taken.preparation()(torch.from_numpy(pictures)).to(device())
        expected = [part.cpu().numpy() for part in in_float32(stage.option)(ready)]
    told = check_vectors(path.name, run, pictures, expected[0], "torch")
    if len(expected) > 1:
        distance = run_named(path)({"images": pictures})["distance"]
        told["max_distance_difference"] = check_near(path.name, distance, expected[1], "torch")
    return told | {"cosine_with_index": judge.must_store(run, taken)}


def _prove_parts(stages: Stages, stage: OptionStage, parts: Parts, path: Path) -> dict[str, Any]:
    """The file from what models say, compared with torch and with the very vectors that the run stored."""
    known = stage.indexed
    rows = np.linspace(0, len(known.gallery) - 1, min(len(known.gallery), _SOME)).astype(np.int64)
    said, run = _said(stages, stage, rows), run_named(path)
    with torch.no_grad():
        combine = parts.combine.to(device()).eval()
        expected = [out.cpu().numpy() for out in combine([torch.tensor(part).to(device()) for part in said.values()])]
    several = np.arange(SEVERAL) % len(rows)
    told = check_vectors(
        path.name, lambda some: run({name: part[some] for name, part in said.items()})["embedding"], several,
        expected[0][several], "torch",
    )  # fmt: skip
    got, stored = run(said), "the vectors that the run stored"
    told["max_difference_from_stored"] = check_near(path.name, got["embedding"], known.gallery[rows], stored)
    if parts.rejects and known.distance is not None:
        distance = check_near(path.name, got["distance"], known.distance[rows], "the distances that the run stored")
        told["max_distance_difference"] = distance
    return told | {"stored_images": len(rows)}


def _said(stages: Stages, stage: OptionStage, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What the models of an option said of some of the search gallery, as the run keeps it."""
    option = stage.option
    if isinstance(option, FusionGallery):
        features = option.bank.read(stages.splits.search.gallery.rows[rows])
        globally = [entry.kind == "global" for entry in option.bank.manifest.sources]
        arrays = [part[:, 0] if flat else part for part, flat in zip(features, globally, strict=True)]
        return {name: part.numpy() for name, part in zip(option.bank.names, arrays, strict=True)}
    members = stage.members if isinstance(stage, EnsembleStage) else {stage.settings.name: stage}
    own = {
        name: one.own.embedded.gallery if isinstance(one, MappedStage) else one.indexed.gallery
        for name, one in members.items()
    }
    return {name: np.array(vectors[rows]) for name, vectors in own.items()}
