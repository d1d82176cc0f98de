"""Checking a bundle again: here, now, against an index that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from torch import nn

from cmpnas.data import load_splits
from cmpnas.data.settings import AnyData, DataSettings
from cmpnas.errors import RunError
from cmpnas.export import bundle
from cmpnas.export.bundle import Bundle
from cmpnas.export.graph import Runner, run_module, run_named, run_onnx, run_program
from cmpnas.export.proof import SEVERAL, Judge, check_vectors, lost_points, must_be_of, told, told_points
from cmpnas.export.source import load_source
from cmpnas.pipeline.aligned import join
from cmpnas.retrieval.compare import compare

_SLACK = 0.1  # points by which a score may move between machines


def verify(path: Path, index: Path | None = None, *, data: str | None = None) -> dict[str, Any]:
    """Check a bundle: its files are whole and agree with each other, and the index is searched as well as it was.

    Without ``index`` no data are needed, and the score is not checked.

    Returns:
        ``{"bundle", "files": {name: what was compared}, "scores": {...} or None}``.

    Raises:
        CmpnasError: it is no bundle, a file is damaged or does something else, the index is of another gallery model,
            or a score is not what it was.
    """
    found = Bundle.open(path)
    if index is not None:
        must_be_of(index, found.manifest["gallery"])
    taken, runners = found.pictures, _runners(found)
    pictures = taken.example(SEVERAL)
    expected = run_program(path / bundle.PROGRAM)(pictures)
    checks = {}
    for name, run in runners.items():
        alone = name in bundle.SMALL  # it is not to equal float32, and its score is checked below
        expect, of = (run(pictures), "itself, all pictures at once") if alone else (expected, bundle.PROGRAM)
        checks[name] = check_vectors(name, run, pictures, expect, of)
    if found.has(bundle.PARTS):
        checks[bundle.PARTS] = _check_parts(found)
    if found.has(bundle.ALIGN):
        vectors = np.random.default_rng(0).normal(size=(SEVERAL, found.manifest["embedding_dim"])).astype(np.float32)
        run = run_onnx(path / bundle.ALIGN)
        checks[bundle.ALIGN] = check_vectors(bundle.ALIGN, run, vectors, run(vectors), "itself, all vectors at once")
    scores = None if index is None else _score(found, runners, index, data)
    return {"bundle": str(path), "files": checks, "scores": scores}


def _runners(found: Bundle) -> dict[str, Runner]:
    """What there is beside the program, by file."""
    runners = {name: run_onnx(found.path / name) for name in (bundle.ONNX, *bundle.SMALL) if found.has(name)}
    if found.has(bundle.SOURCE):
        source = load_source(found.path / bundle.SOURCE)
        runners[bundle.SOURCE] = run_module(nn.Sequential(found.pictures.preparation(), source))
    return runners


def _check_parts(found: Bundle) -> dict[str, Any]:
    """That batches of noise give vectors of length 1, and the same ones whatever their size."""
    run, rng = run_named(found.path / bundle.PARTS), np.random.default_rng(0)
    try:
        inputs = found.manifest["gallery_files"][bundle.PARTS]["inputs"]
        noise = {taken["name"]: rng.normal(size=(SEVERAL, *taken["shape"][1:])).astype(np.float32) for taken in inputs}
    except (KeyError, TypeError):
        raise RunError(
            f"{found.path / bundle.MANIFEST} does not say what {bundle.PARTS} takes; export again."
        ) from None

    def embed(rows: np.ndarray) -> np.ndarray:
        return run({name: values[rows] for name, values in noise.items()})["embedding"]

    rows = np.arange(SEVERAL)
    return check_vectors(bundle.PARTS, embed, rows, embed(rows), "itself, all vectors at once")


def _score(found: Bundle, runners: dict[str, Runner], index: Path, data: str | None) -> dict[str, Any]:
    """Heterogeneous scores of the ONNX files against an existing index.

    Raises:
        RunError: the data are others, or a score is not what it was.
    """
    known, before = found.manifest["data"], found.manifest["scores"]
    try:
        settings: DataSettings = TypeAdapter(AnyData).validate_python(known["settings"])
    except ValidationError:
        raise RunError(f"{found.path / bundle.MANIFEST} does not say what data it is of; export again.") from None
    splits = load_splits(settings, data)
    if splits.fingerprint != known["fingerprint"]:
        raise RunError(
            f"{found.path} was scored on other data (fingerprint {known['fingerprint']}, now {splits.fingerprint}); "
            "name the right folder with --data."
        )
    metric = before["metric"]
    stored = Judge.of_index(index, splits.search, metric)
    judge = stored.aligned(run_onnx(found.path / bundle.ALIGN)) if found.has(bundle.ALIGN) else stored
    if before.get("index") == "joined":
        judge = judge.joined(join, runners[bundle.ONNX], found.pictures)
    score = judge.score(judge.embed(runners[bundle.ONNX], found.pictures))
    moved = 100 * (score[metric] - before["heterogeneous"]["score"])
    if abs(moved) > _SLACK:
        raise RunError(
            f"{bundle.ONNX} has {metric} {score[metric]:.4f} against {index}; the manifest has "
            f"{before['heterogeneous']['score']:.4f}. Export again, from the run that made this index."
        )
    result = {
        "metric": metric,
        "queries": score.n_queries,
        "learned_from_split": splits.search_is_learned,
        "index_is_learned": splits.index_is_learned("search"),
        bundle.ONNX: told(score, metric),
    }
    if found.has(bundle.GALLERY):
        gallery = run_onnx(found.path / bundle.GALLERY)
        result[bundle.GALLERY] = {"cosine_with_index": stored.must_store(gallery, found.pictures)}
    for name in filter(runners.__contains__, bundle.SMALL):
        small = judge.score(judge.embed(runners[name], found.pictures))
        against, allowed = compare(small, score, metric), found.manifest["int8"]["tolerance_points"]
        if lost_points(against) > allowed:
            raise RunError(
                f"{name} loses {lost_points(against):.2f} points of {metric} against {bundle.ONNX} on this "
                f"machine, more than {allowed:g}; export again here, or use {bundle.ONNX}."
            )
        result[name] = told(small, metric) | {"against_float32": told_points(against)}
    return result
