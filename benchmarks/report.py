"""How large the page of a run is, and how soon a browser has drawn it.

    python benchmarks/report.py [RECORDS] [PAGE.html ...]        (default: 2000 made-up candidates of space mobile)

Needs chromium. Times are from the request of a file to the end of its scripts, medians of five in turn, beside those of
an empty page in the same run. Further pages set ``data-drawn-ms`` on their root element themselves.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from command import as_command
from made_up import make_run

from cmpnas.pipeline.report import report

_EMPTY = "<!doctype html><script>document.documentElement.dataset.drawnMs = Math.round(performance.now())</script>"


def main(
    records: Annotated[int, typer.Argument()] = 2000, more: Annotated[list[Path] | None, typer.Argument()] = None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report(make_run(folder / "run", records).path, folder / "report.html", say=lambda _: None)
        (folder / "empty.html").write_text(_EMPTY)
        pages = [folder / "empty.html", folder / "report.html", *(more or [])]
        spent: dict[Path, list[int]] = {page: [] for page in pages}
        for _ in range(5):
            for page in pages:
                spent[page].append(drawn_ms(page))
        print(f"{'page':<24}{'MB':>8}{'ms':>8}")
        for page in pages:
            print(f"{page.name:<24}{page.stat().st_size / 1e6:>8.2f}{statistics.median(spent[page]):>8.0f}")


def drawn_ms(page: Path) -> int:
    """Milliseconds from the request to the end of the page's scripts, as the page counts them."""
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", page.resolve().as_uri()]
    document = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return int(re.search(r'data-drawn-ms="(\d+)"', document)[1])  # type: ignore[index]


if __name__ == "__main__":
    as_command(main)
