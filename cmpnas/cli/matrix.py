"""``cmpnas matrix``: which encoders speak the same language."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmpnas.cli.options import Json, print_json
from cmpnas.errors import DataError

if TYPE_CHECKING:
    from cmpnas.retrieval import Matrix

EPILOG = "Example: cmpnas matrix --query small.npz --query large.npz --gallery large.npz --metric map@r"

_Files = list[Path]
_ARRAYS = "{0}_embeddings, {0}_labels (and {0}_sources: a query's own source is ignored); repeatable."


def command(
    query: Annotated[_Files, typer.Option(metavar="FILE", help="npz of " + _ARRAYS.format("query"))],
    gallery: Annotated[_Files, typer.Option(metavar="FILE", help="npz of " + _ARRAYS.format("gallery"))],
    metric: Annotated[str, typer.Option(help="As in cmpnas ls metrics.")] = "map@r",
    as_json: Json = False,
) -> None:
    """Score every pair of encoders: M(q, g) with queries by q and the gallery by g."""
    import numpy as np

    from cmpnas.data.readers.npz import read_npz
    from cmpnas.retrieval import compatibility_matrix
    from cmpnas.retrieval.similarity import as_matrix

    called: dict[str, Path] = {}

    def side(files: _Files, role: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
        embeddings: dict[str, np.ndarray] = {}
        known: dict[str, np.ndarray] = {}
        for file in files:
            arrays = read_npz(file, f"{role}_embeddings", f"{role}_labels")
            own = {name: arrays[name] for name in (f"{role}_labels", f"{role}_sources") if name in arrays}
            for name in (own | known) if known else ():
                if not np.array_equal(own.get(name, ()), known.get(name, ())):
                    raise DataError(f"{file} has other {name} than {files[0]}; all must embed the same items.")
            known = own
            if called.setdefault(file.stem, file.resolve()) != file.resolve() or file.stem in embeddings:
                raise DataError(
                    f"two files are called {file.stem!r}, which names an encoder; give them different names (one file "
                    "may hold queries and gallery)."
                )
            embeddings[file.stem] = as_matrix(arrays[f"{role}_embeddings"], f"{role}_embeddings of {file}")
        return embeddings, known[f"{role}_labels"], known.get(f"{role}_sources")

    queries, query_labels, query_sources = side(query, "query")
    galleries, gallery_labels, gallery_sources = side(gallery, "gallery")
    if (query_sources is None) != (gallery_sources is None):
        raise DataError("only one side has sources; give query_sources and gallery_sources, or neither.")
    matrix = compatibility_matrix(
        queries=queries,
        galleries=galleries,
        query_labels=query_labels,
        gallery_labels=gallery_labels,
        metric=metric,
        exclude=None if query_sources is None or gallery_sources is None else (query_sources, gallery_sources),
    )
    counts = next(iter(matrix.scores.values()))
    result = {
        "metric": metric,
        "queries": counts.n_queries,
        "excluded_queries": counts.n_excluded,
        "chance": matrix.chance[metric],
        "other_width": [[q, g] for q in queries for g in galleries if (q, g) not in matrix.scores],
        "pairs": [_row(matrix, q, g) for q, g in matrix.scores],
    }
    if as_json:
        print_json(result)
        return
    from cmpnas.report.tables import print_matrix

    print_matrix(result)


def _row(matrix: Matrix, q: str, g: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "query": q,
        "gallery": g,
        "score": matrix[q, g],
        "interval": list(matrix.interval(q, g)),
        "tie_share": matrix.scores[q, g].tie_share,
        "verdict": matrix.verdict(q, g),
    }
    if q != g and (q, q) in matrix.scores:
        gain = matrix.gain(q, g)
        row |= {"gain": gain.difference, "gain_interval": list(gain.interval), "gain_p": gain.p_value}
    if q != g and (g, g) in matrix.scores:
        row["paragon_gap"] = matrix.paragon_gap(q, g)
        if (q, q) in matrix.scores:
            row["update_gain"] = matrix.update_gain(q, g)
    return row
