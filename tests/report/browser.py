"""A page in headless Chromium: what it looks like after its scripts, and what they complained of."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; on Debian: apt-get install chromium")


def open_page(page: Path, *, script: str = "", size: tuple[int, int] = (1200, 900)) -> tuple[str, list[str]]:
    """The document after ``script`` has run at its end, and every line on the console.

    The policy of the page forbids nothing that stands in it, so a test may add to a copy.
    """
    if script:
        copy = page.with_name(f"probed-{page.name}")
        copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
        page = copy
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--window-size={size[0]},{size[1]}", "--dump-dom", page.resolve().as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, re.findall(r":CONSOLE.*", done.stderr)
