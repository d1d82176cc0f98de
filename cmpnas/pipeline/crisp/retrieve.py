"""Asking a finished text run for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import RunError
from cmpnas.files import read_json
from cmpnas.pipeline.crisp.finish import Searcher, picked, weights_key
from cmpnas.pipeline.crisp.stages import TextStages
from cmpnas.pipeline.stages import Say
from cmpnas.text.train import vocabulary_of

_CELL, _COLUMNS = 128, 5  # pixels of a picture on the sheet, and pictures in a row


def retrieve(
    path: Path,
    query: str,
    *,
    split: str = "test",
    k: int | None = None,
    show: int = 10,
    sheet: Path | None = None,
    data: str | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """The best pictures for ``query``, by the cascade that was planned or with ``k`` candidates, at least ``show``.

    The plan is that of the split's own gallery, once the split was evaluated; before, that of the search split's.

    Returns:
        ``{"query", "k", "found": [{"rank", "row", "name", "score"}], "sheet"}``; ``sheet`` is null where the data
        have region features and no pictures.

    Raises:
        DataError: the query is empty, too long, or nothing in it is known.
        RunError: no encoder is finished, or another process works on the run.
    """
    stages = TextStages.of_run(path, data, say)
    with stages.run.locked():
        arch, network, pool, content = picked(stages)
        plan = _planned_for(stages.run.path / f"evaluation.{split}.json", weights_key(stages, arch)) or content["plan"]
        stages.tokeniser.limited(vocabulary_of(arch)).encode_query(query)
        stages.run.note_opened(split)
        searcher = Searcher.over(stages, split, arch, network, pool)
    pairs = stages.pairs(split)
    k = min(max(k or plan["k"], show), len(pairs))
    found = searcher.cascade(k, plan["weight"]).search([query])
    rows, scores = found.rows[0][:show], found.scores[0][:show]
    lines = [
        {"rank": rank, "row": int(row), "name": pairs.names[row], "score": float(score)}
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), 1)
    ]
    drawn = None
    if pairs.items is not None:
        drawn = sheet or path / "retrieved.png"
        _draw(pairs.items.images.read(rows).permute(0, 2, 3, 1).numpy(), drawn)
    return {"query": query, "k": k, "found": lines, "sheet": None if drawn is None else str(drawn)}


def _planned_for(evaluation: Path, weights: str) -> dict[str, Any] | None:
    """The plan that an evaluation made, where it is of these weights."""
    content = read_json(evaluation) if evaluation.exists() else {}
    return content["plan"] if content.get("key") == weights else None


def _draw(pictures: np.ndarray, path: Path) -> None:
    """Save pictures, uint8 ``(N, S, S, 3)``, in rows from the best one on."""
    from PIL import Image

    columns = min(_COLUMNS, len(pictures))
    sheet = Image.new("RGB", (columns * _CELL, -(-len(pictures) // columns) * _CELL), "white")
    for place, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels).resize((_CELL - 4, _CELL - 4), Image.Resampling.BILINEAR)
        sheet.paste(picture, (place % columns * _CELL + 2, place // columns * _CELL + 2))
    try:
        sheet.save(path)
    except (OSError, ValueError) as fault:
        raise RunError(f"cannot write the sheet {path} ({fault}); name a .png or .jpg file with --sheet.") from None
