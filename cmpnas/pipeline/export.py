"""Exporting the query network of one pair as a bundle that proves itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cmpnas.errors import RunError
from cmpnas.export import bundle
from cmpnas.export.graph import run_module, run_onnx, run_program, trace, write_onnx, write_program
from cmpnas.export.int8 import Quantiser, quantise_within
from cmpnas.export.pictures import Pictures, UnitEncoder
from cmpnas.export.proof import SEVERAL, Judge, check_vectors, told, told_points
from cmpnas.export.readme import readme
from cmpnas.export.source import NotPlainError, load_source, write_source
from cmpnas.export.weights8 import write_weights8_within
from cmpnas.files import hash_file, read_json, write, write_json
from cmpnas.gallery.transform import Transform
from cmpnas.models.network import Network
from cmpnas.pipeline.aligned import Kind, align, join
from cmpnas.pipeline.gallery_side import describe_option, write_gallery_side
from cmpnas.pipeline.option_stages import OptionStage
from cmpnas.pipeline.options import find_option
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.pipeline.train import Finish, load_finished, weights_key
from cmpnas.provenance import versions
from cmpnas.retrieval import Scores
from cmpnas.retrieval.compare import Comparison, compare
from cmpnas.run import RunFolder
from cmpnas.search.evaluator import score_pair
from cmpnas.search.front import pick

_CALIBRATION = 512  # training pictures that int8 ranges are measured on
_UNITS = {
    "mflops": "million multiply-adds of convolution and linear layers, one picture",
    "params_m": "million parameters",
    "latency_ms": "milliseconds, one picture; null: not measured",
    "bytes": "of the file",
}


def export(
    path: Path,
    which: str,
    out: Path | None = None,
    *,
    int8: bool = False,
    tolerance: float = 1.0,
    preprocess: str | None = None,
    gallery: bool = False,
    index: Kind = "heterogeneous",
    option: str | None = None,
    data: str | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Export the trained query network of a pick, checked against torch and the index of its gallery option.

    Args:
        int8: also quantise, everything in one file and the weights alone in another; ``tolerance`` is what each may
            cost, in points of the recipe's metric on the search split.
        preprocess: see `Pictures.parse`; None for float pictures.
        gallery: also the gallery side, to the vectors that the index stores.
        index: whether it is to be aligned to the network first, by a file of the bundle, or joined by its vectors
            besides; all scores are of it so.
        option: the gallery option by name; None for that of the pair.

    Returns:
        ``{"out", "id", "manifest"}``.

    Raises:
        CmpnasError: the pick or the option does not exist or is not trained, ``out`` cannot be written, a file fails
            its check, or another process works on the run.
    """
    run = RunFolder.open(path)
    chosen = pick(run.read_front(), which)
    if not tolerance >= 0:
        raise RunError(f"a tolerance of {tolerance:g} points is not a number of at least 0.")
    taken = Pictures.parse(preprocess, run.recipe.data.size)
    stages = Stages.of_run(path, data, say)
    arch = stages.space.from_json(chosen["query"]["arch"])
    network = load_finished(stages, Finish.by(run.recipe, arch))
    out = out or run.path / "export" / arch.id
    stage = find_option(stages, option or chosen["gallery"]["name"])
    stored = Judge.of_index(stage.folder / "index.faiss", stages.splits.search, run.recipe.search.metric)
    with run.locked(), bundle.whole_or_absent(out) as folder:
        write_json(folder / "arch.json", arch.to_json())
        aligned = index != "heterogeneous"
        judge, proof = _write_align(align(stages, network), stored, folder) if aligned else (stored, {})
        proven, judge, score = _write_float(stages, network.cpu(), taken, judge, folder, arch.id, index == "joined")
        proof |= proven
        about: dict[str, Any] = {}
        if int8:
            about = _write_small(stages, taken, judge, score, folder, tolerance)
            small = [name for name in bundle.SMALL if (folder / name).exists()]
            proof |= {name: _prove_small(stages, taken, folder, name) for name in small}
        if gallery:
            proven, about["gallery_files"] = write_gallery_side(stages, stage, taken, stored, folder)
            proof |= proven
        manifest = _manifest(stages, stage, chosen, taken, judge, score, index) | about | {"proof": proof}
        write(folder / "README.md", readme(manifest | {"files": bundle.describe_files(folder)}))
        manifest["files"] = bundle.describe_files(folder)
        write_json(folder / bundle.MANIFEST, manifest)
    return {"out": str(out), "id": arch.id, "manifest": manifest}


def _write_float(
    stages: Stages, network: Network, taken: Pictures, judge: Judge, folder: Path, title: str, joined: bool
) -> tuple[dict[str, Any], Judge, Scores]:
    """The float32 files: what was compared, who is asked where they join the index, and the score of the ONNX file."""
    encoder = UnitEncoder(network).eval()
    whole = nn.Sequential(taken.preparation(), encoder) if taken.layout else encoder
    program = trace(whole, taken.example(2))
    write_program(program, folder / bundle.PROGRAM)
    write_onnx(program, folder / bundle.ONNX)
    pictures = _pictures(stages, taken)
    expected = run_module(whole)(pictures)
    files = {bundle.ONNX: run_onnx(folder / bundle.ONNX), bundle.PROGRAM: run_program(folder / bundle.PROGRAM)}
    try:
        source = folder / bundle.SOURCE
        write_source(encoder, source, title=f"Query encoder {title}.", size=taken.size, dim=stages.space.embedding_dim)
        files[bundle.SOURCE] = run_module(nn.Sequential(taken.preparation(), load_source(source)))
    except NotPlainError as fault:
        stages.say(f"no {bundle.SOURCE}: {fault}")
    proof = {name: check_vectors(name, run, pictures, expected, "torch") for name, run in files.items()}
    if joined:
        judge = judge.joined(join, files[bundle.ONNX], taken)
    vectors = judge.embed(files[bundle.ONNX], taken)
    if not judge.same_top(vectors, judge.embed(run_module(whole), taken)):
        raise RunError("the ONNX file finds another top 10 in the gallery index than torch.")
    proof[bundle.ONNX]["same_top10"] = True
    return proof, judge, judge.score(vectors)


def _write_align(transform: Transform, stored: Judge, folder: Path) -> tuple[Judge, dict[str, Any]]:
    """The file that takes an index into the network's language; who is asked of it then, and what was compared."""
    name, encoder = bundle.ALIGN, UnitEncoder(transform.cpu()).eval()
    write_onnx(trace(encoder, stored.vectors[:2]), folder / name, inputs=("vectors",))
    judge, run = stored.aligned(transform.apply_to), run_onnx(folder / name)
    rows = np.arange(SEVERAL) % len(stored.vectors)
    return judge, {name: check_vectors(name, run, stored.vectors[rows], judge.vectors[rows], "torch")}


def _write_small(
    stages: Stages, taken: Pictures, judge: Judge, score: Scores, folder: Path, tolerance: float
) -> dict[str, Any]:
    """The files in int8 and with weights in int8, and what a manifest says of them."""
    pool = stages.splits.pool
    rows = pool.sample(_CALIBRATION)
    stages.say(f"int8: calibrating on {len(rows)} training pictures")
    scratch = folder / "int8"
    scratch.mkdir()
    quantiser = Quantiser(folder / bundle.ONNX, lambda: taken.batches(pool, rows), scratch)

    def gain(file: Path) -> Comparison:
        return compare(judge.score(judge.embed(run_onnx(file), taken)), score, judge.metric)

    report = quantise_within(quantiser, folder / bundle.INT8, gain, tolerance, stages.say)
    weights8 = write_weights8_within(folder / bundle.ONNX, folder / bundle.WEIGHTS8, gain, tolerance, stages.say)
    return {"int8": {"calibration": {"split": "train", "pictures": len(rows)}} | report, "weights8": weights8}


def _prove_small(stages: Stages, taken: Pictures, folder: Path, name: str) -> dict[str, Any]:
    """Batches agree and vectors have length 1; how near they are to float32's."""
    pictures, run = _pictures(stages, taken), run_onnx(folder / name)
    own = run(pictures)
    cosine = (own * run_onnx(folder / bundle.ONNX)(pictures)).sum(1)
    checked = check_vectors(name, run, pictures, own, "itself, all pictures at once")
    return checked | {"cosine_with_float32": {"mean": float(cosine.mean()), "least": float(cosine.min())}}


def _pictures(stages: Stages, taken: Pictures) -> np.ndarray:
    """Search queries to compare vectors on, repeated where there are fewer."""
    queries = stages.splits.search.query
    return taken.read(queries, np.arange(SEVERAL) % len(queries))


def _manifest(
    stages: Stages,
    stage: OptionStage,
    chosen: dict[str, Any],
    taken: Pictures,
    judge: Judge,
    score: Scores,
    index: Kind,
) -> dict[str, Any]:
    """All but what the files themselves tell."""
    run, recipe, metric, embedded = stages.run, stages.recipe, judge.metric, stages.embedded
    paragon = score_pair(embedded.query, embedded.gallery, judge.task, [metric])
    gallery = describe_option(stages, stage)
    own = chosen["query"]["mflops"] if index == "joined" else 0.0
    return {
        "schema": 1,
        "query": chosen["query"],
        "gallery": gallery | {"index": hash_file(stage.folder / "index.faiss"), "items": len(judge.vectors)},
        "embedding_dim": stages.space.embedding_dim,
        "metric": "cosine",
        "normalisation": "unit length (L2), inside the graph",
        "input": taken.to_json(),
        "output": {"name": "embedding", "dtype": "float32", "shape": ["batch", stages.space.embedding_dim], "norm": 1},
        "scores": {
            "metric": metric,
            "split": "search",
            "learned_from_split": stages.splits.search_is_learned,
            "index_is_learned": stages.splits.index_is_learned("search"),
            "queries": score.n_queries,
            "gallery_items": len(judge.vectors),
            "index": index,
            "heterogeneous": told(score, metric),
            "paragon": told(paragon, metric),
            "above_paragon": told_points(compare(score, paragon, metric)),
            "test": _tested(stages, chosen, stage.settings.name, index),
        },
        "costs": {
            "query": {name: chosen["query"][name] for name in ("mflops", "params_m", "latency_ms")},
            "gallery": {"mflops": gallery["mflops"] + own},
            "cost_reduction": chosen["cost_reduction"],
            "units": _UNITS,
        },
        "data": {
            "recipe": recipe.name,
            "fingerprint": stages.splits.fingerprint,
            "settings": recipe.data.model_dump(mode="json", by_alias=True),
        },
        "versions": {"search": run.manifest()["versions"], "export": versions()},
    }  # fmt: skip


def _tested(stages: Stages, chosen: dict[str, Any], gallery: str, index: Kind) -> dict[str, Any] | None:
    """The verdict of `cmpnas evaluate` on these weights and the test split, if there is one; nothing is opened here."""
    path = stages.run.path / "evaluation.test.json"
    if not path.exists():
        return None
    how = Finish.by(stages.recipe, stages.space.from_json(chosen["query"]["arch"]))
    verdicts, wanted = read_json(path)["verdicts"], (weights_key(stages, how), gallery, index)
    found = [said for said in verdicts if (said.get("key"), said["gallery"], said.get("kind")) == wanted]
    return found[0] if found else None
