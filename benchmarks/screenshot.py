"""A picture of a page as a window or a phone shows it: how the screenshots of docs/report.md are made.

    python benchmarks/screenshot.py PAGE.html[#anchor] OUT.png [WIDTH [HEIGHT]]        (default: 1200 by 1500 px)

Needs chromium. The page stands in a frame, since headless Chromium opens no window narrower than 500 px; colours are
reduced to 256, so that the file stays small.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from command import as_command
from PIL import Image

_FRAME = '<!doctype html><body style="margin:0"><iframe src="{}" style="width:{}px;height:{}px;border:0"></iframe>'


def main(
    page: str,
    out: Path,
    width: Annotated[int, typer.Argument()] = 1200,
    height: Annotated[int, typer.Argument()] = 1500,
) -> None:
    page, _, anchor = page.partition("#")
    with tempfile.TemporaryDirectory() as name:
        frame = Path(name) / "frame.html"
        address = Path(page).resolve().as_uri() + (f"#{anchor}" if anchor else "")
        frame.write_text(_FRAME.format(address, width, height))
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        window = [
            f"--window-size={max(500, width)},{height}",
            f"--screenshot={Path(name) / 'shot.png'}",
            frame.as_uri(),
        ]
        subprocess.run([*command, *window], check=True, capture_output=True, timeout=120)
        with Image.open(Path(name) / "shot.png") as shot:
            shot.convert("RGB").crop((0, 0, width, height)).quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    as_command(main)
