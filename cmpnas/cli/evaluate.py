"""``cmpnas evaluate``: the final table."""

from __future__ import annotations

from typing import Annotated

import typer

from cmpnas.cli.options import Data, Json, Run, print_json, say
from cmpnas.errors import CmpnasError

EPILOG = "Example: cmpnas evaluate runs/quickstart"


def command(
    run: Run,
    split: Annotated[str, typer.Option(help="test, or search to look without opening the test split.")] = "test",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Score every trained pick, in the index as it is, aligned and joined: with paragon, controls, verdicts."""
    if split not in ("test", "search"):
        raise CmpnasError(f"unknown split {split!r}; give test or search.")
    from cmpnas.run import TextRunFolder, open_run

    if isinstance(open_run(run), TextRunFolder):
        from cmpnas.pipeline.crisp.evaluate import evaluate_text
        from cmpnas.report.text import print_text_evaluation

        found = evaluate_text(run, split, data=data, say=say)
        print_json(found) if as_json else print_text_evaluation(found)
        return
    from cmpnas.pipeline.evaluate import evaluate

    result = evaluate(run, split, data=data, say=say)
    if as_json:
        print_json(result)
        return
    from cmpnas.report.tables import print_evaluation

    print_evaluation(result)
