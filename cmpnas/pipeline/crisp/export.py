"""Exporting the finished coarse text encoder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmpnas.export.text import export_text
from cmpnas.pipeline.crisp.finish import indexed, picked
from cmpnas.pipeline.crisp.stages import TextStages
from cmpnas.pipeline.stages import Say
from cmpnas.text.train import vocabulary_of


def export_text_run(
    path: Path, out: Path | None = None, *, data: str | None = None, say: Say = print
) -> dict[str, Any]:
    """Export the encoder that was finished last, with its tokeniser and the vectors of the search split's pictures.

    Returns:
        ``{"out", "id", "check"}``.

    Raises:
        CmpnasError: none is finished, or the files fail their check.
    """
    stages = TextStages.of_run(path, data, say)
    with stages.run.locked():
        arch, network, pool, plan = picked(stages)
        pairs, folder = stages.pairs("search"), out or path / "export" / arch.id
        cost = stages.space.cost(arch)
        manifest = {
            "schema": 1,
            "task": "text",
            "query": {"id": arch.id, "arch": arch.to_json(), "mflops": cost.mflops, "params_m": cost.params_m},
            "embedding_dim": stages.space.embedding_dim,
            "metric": "cosine",
            "input": {"name": "ids", "dtype": "int64", "shape": ["batch", stages.space.size], "by": "tokeniser.json"},
            "output": {"name": "vector", "dtype": "float32", "norm": 1},
            "plan": plan["plan"],
            "versions": stages.run.manifest()["versions"],
        }
        tokeniser = stages.tokeniser.limited(vocabulary_of(arch))
        pictures = indexed(stages, "search", arch, pool)
        check = export_text(network, tokeniser, pairs.captions[:64], pictures, pairs.names, manifest, folder)
    return {"out": str(folder), "id": arch.id, "check": check}
