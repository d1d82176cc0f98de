"""``cmpnas score``: saved embeddings against a published benchmark, or against your own labels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmpnas.cli.options import Json, print_json
from cmpnas.errors import CmpnasError, unknown

if TYPE_CHECKING:
    import numpy as np

    from cmpnas.retrieval import Scores
    from cmpnas.retrieval.compare import Comparison
    from cmpnas.retrieval.protocols import Result

EPILOG = "Example: cmpnas score revisited --truth gnd_roxford5k.pkl --query small.npy --gallery large.npy"

#: Name to what ``--truth`` is.
_PROTOCOLS = {
    "labels": "npz of query_labels, gallery_labels (and query_sources, gallery_sources)",
    "revisited": "gnd_roxford5k.pkl or gnd_rparis6k.pkl",
    "gldv2": "folder with retrieval_solution_v2.1.csv and index.csv",
    "ijb": "folder with the lists of IJB-B or IJB-C",
    "deepfashion2": "folder with val_query.json and val_gallery.json",
    "captions": "Karpathy's or COCO's caption file",
    "oneshot": "folder of runs with class_labels.txt",
}


def command(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help=", ".join(_PROTOCOLS))],
    truth: Annotated[Path, typer.Option(metavar="PATH", help="The benchmark's own files.")],
    query: Annotated[
        Path | None, typer.Option(metavar="FILE", help="npy in the benchmark's order, or npz of embeddings and ids.")
    ] = None,
    gallery: Annotated[Path | None, typer.Option(metavar="FILE", help="The same for the gallery items.")] = None,
    results: Annotated[
        Path | None, typer.Option(metavar="FILE", help="deepfashion2: an own detector's results, official JSON.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="labels: as in cmpnas ls metrics; repeatable.")] = None,
    ties: Annotated[
        str | None, typer.Option(help="labels: pessimistic (the default), or stable: gallery order.")
    ] = None,
    empty: Annotated[
        str | None, typer.Option(help="labels: exclude queries with nothing to find (the default), or zero.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="labels: a second query encoder, compared query by query.")
    ] = None,
    index: Annotated[
        str | None, typer.Option(metavar="FACTORY", help="labels: rank by a faiss index, as IVF1024,Flat.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score query embeddings against gallery embeddings by a benchmark's own rules.

    Queries may be embedded by one model and the gallery by another, as long as they share a space.
    """
    if protocol not in _PROTOCOLS:
        raise CmpnasError(unknown("protocol", protocol, _PROTOCOLS))
    if results is not None and protocol != "deepfashion2":
        raise CmpnasError(f"--results is for the protocol deepfashion2; {protocol} takes --query and --gallery.")
    if results is not None and (query or gallery):
        raise CmpnasError("--results holds what was found; give it, or --query and --gallery.")
    if protocol == "labels":
        report = _labels(truth, query, gallery, metric, ties or "pessimistic", empty or "exclude", against, index)
    else:
        own = {"metric": metric, "ties": ties, "empty": empty, "against": against, "index": index}
        given = [name for name, value in own.items() if value is not None]
        if given:
            raise CmpnasError(f"--{given[0]} is for the protocol labels; {protocol} has its own rules.")
        lines = _lines(protocol, truth, query, gallery, results)
        report = {"protocol": protocol, "results": [asdict(line) for line in lines]}
    if as_json:
        print_json(report)
        return
    from cmpnas.report.tables import print_results

    print_results(report)


def _lines(protocol: str, truth: Path, query: Path | None, gallery: Path | None, results: Path | None) -> list[Result]:
    from cmpnas.retrieval import protocols as p

    if protocol == "deepfashion2" and results is not None:
        return p.DeepFashion2.read(truth).detected(results)
    if protocol == "revisited":
        revisited = p.Revisited.read(truth)
        return revisited.results(*_both(query, gallery, revisited.query_ids, revisited.gallery_ids))
    if protocol == "gldv2":
        landmarks = p.Landmarks.read(truth)
        return landmarks.results(*_both(query, gallery, landmarks.query_ids, landmarks.gallery_ids))
    if protocol == "ijb":
        faces = p.Faces.read(truth)
        return faces.results(*_both(query, gallery, len(faces.template), len(faces.template)))
    if protocol == "deepfashion2":
        items = p.DeepFashion2.read(truth)
        return items.gt_crop(*_both(query, gallery, len(items.query), len(items.gallery)))
    if protocol == "captions":
        captions = p.Captions.read(truth)
        return captions.results(*_both(query, gallery, captions.image_ids, len(captions.captions)))
    runs = p.OneShot.read(truth)
    return runs.results(*_both(query, gallery, runs.query_ids, runs.gallery_ids))


def _both(
    query: Path | None, gallery: Path | None, query_items: list[str] | int, gallery_items: list[str] | int
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides' embeddings."""
    return _side(query, query_items, "query"), _side(gallery, gallery_items, "gallery")


def _side(path: Path | None, items: list[str] | int, what: str) -> np.ndarray:
    """Embeddings of one side, aligned to the benchmark's ids where it names its items."""
    from cmpnas.retrieval.protocols.vectors import read_vectors

    if path is None:
        raise CmpnasError(f"--{what} is missing; give an npy or npz file of the {what} embeddings.")
    if isinstance(items, int):
        return read_vectors(path, None, items, f"{what} items")
    return read_vectors(path, items, len(items), f"{what} items")


def _labels(
    truth: Path,
    query: Path | None,
    gallery: Path | None,
    metric: list[str] | None,
    ties: str,
    empty: str,
    against: Path | None,
    index: str | None,
) -> dict[str, Any]:
    from cmpnas.retrieval import GalleryIndex
    from cmpnas.retrieval.compare import compare
    from cmpnas.retrieval.protocols import Labels
    from cmpnas.retrieval.protocols.result import results

    task = Labels.read(truth)
    a, g = _both(query, gallery, len(task.query), len(task.gallery))
    metrics = metric or ["hit@1", "map@r", "map_full"]
    found = None if index is None else GalleryIndex.build(g, index)

    def score(embeddings: np.ndarray) -> Scores:
        return task.scores(embeddings, g, metrics, ties=ties, empty=empty, index=found)  # type: ignore[arg-type]

    scores = score(a)
    report: dict[str, Any] = {
        "protocol": "labels",
        "results": [asdict(line) for line in results("", scores, metrics)],
        "ties": ties,
    }
    if found is not None:
        report["index"] = {"factory": index, "recall@10": found.recall(a, g)}
    if against is not None:
        other = score(_side(against, len(task.query), "query"))
        report["against"] = {name: _comparison(compare(scores, other, name)) for name in metrics}
    return report


def _comparison(pair: Comparison) -> dict[str, Any]:
    return {name: getattr(pair, name) for name in ("difference", "interval", "p_value", "wins", "losses")}
