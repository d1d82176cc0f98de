"""``cmpnas matrix``: which encoders speak the same language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cmpnas.cli.options import Json, print_json
from cmpnas.errors import DataError

EPILOG = "Example: cmpnas matrix --query small.npz --query large.npz --gallery large.npz --metric map@r"

_Files = list[Path]


def command(
    query: Annotated[_Files, typer.Option(metavar="FILE", help="npz of query_embeddings, query_labels; repeatable.")],
    gallery: Annotated[
        _Files, typer.Option(metavar="FILE", help="npz of gallery_embeddings, gallery_labels; repeatable.")
    ],
    metric: Annotated[str, typer.Option(help="As in cmpnas ls metrics.")] = "map@r",
    as_json: Json = False,
) -> None:
    """Score every pair of encoders: M(q, g) with queries by q and the gallery by g."""
    import numpy as np

    from cmpnas.data.readers.npz import read_npz
    from cmpnas.retrieval import compatibility_matrix

    def side(files: _Files, role: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        embeddings: dict[str, np.ndarray] = {}
        labels: np.ndarray | None = None
        for file in files:
            arrays = read_npz(file)
            for name in (f"{role}_embeddings", f"{role}_labels"):
                if name not in arrays:
                    raise DataError(f"{file} has no array {name!r}; it holds {', '.join(arrays) or 'nothing'}.")
            if labels is not None and not np.array_equal(labels, arrays[f"{role}_labels"]):
                raise DataError(f"{file} has other {role}_labels than {files[0]}; all must embed the same items.")
            labels = arrays[f"{role}_labels"]
            if file.stem in embeddings:
                raise DataError(f"two {role} files are called {file.stem!r}; give them different names.")
            embeddings[file.stem] = arrays[f"{role}_embeddings"]
        return embeddings, np.asarray(labels)

    queries, query_labels = side(query, "query")
    galleries, gallery_labels = side(gallery, "gallery")
    matrix = compatibility_matrix(
        queries=queries, galleries=galleries, query_labels=query_labels, gallery_labels=gallery_labels, metric=metric
    )
    rows: list[dict[str, Any]] = [
        {"query": q, "gallery": g, "score": matrix[q, g], "interval": list(matrix.interval(q, g))}
        for q, g in matrix.scores
    ]
    if as_json:
        print_json({"metric": metric, "pairs": rows})
        return
    for row in rows:
        low, high = row["interval"]
        print(f"M({row['query']}, {row['gallery']})  {row['score']:.4f}  [{low:.4f}, {high:.4f}]  {metric}")
