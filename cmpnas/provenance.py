"""What results depend on beside a recipe and data: libraries, this package's commit, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_LIBRARIES = ("cmpnas", "torch", "optuna", "faiss-cpu", "numpy", "onnx", "onnxruntime")


def versions() -> dict[str, str | None]:
    """What is installed here of the libraries that results depend on, and the commit of this package's checkout."""
    found: dict[str, str | None] = {}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = None
    return found | {"commit": _commit()}


def machine() -> dict[str, str | int | None]:
    """What this process runs on."""
    return {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()}


def _commit() -> str | None:
    """Of the checkout that this package is run from, if it is one."""
    try:
        asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--show-prefix", "--short", "HEAD"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.split()
        return told[1] if told[0] == "cmpnas/" else None  # else: installed below somebody's own repository
    except (OSError, subprocess.SubprocessError):
        return None
