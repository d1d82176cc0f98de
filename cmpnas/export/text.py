"""The bundle of a coarse text encoder: one ONNX file, its tokeniser, vectors of pictures, and a script that asks.

The script needs onnxruntime, tokenizers and numpy; it knows neither torch nor cmpnas.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cmpnas.errors import RunError
from cmpnas.export.graph import run_module, run_onnx, trace, write_onnx
from cmpnas.export.pictures import UnitEncoder
from cmpnas.export.proof import check_vectors
from cmpnas.files import write, write_json
from cmpnas.retrieval.index import GalleryIndex
from cmpnas.text.tokeniser import Tokeniser

_CHECKED = 16  # texts, at least
_SCRIPT = '''"""Rows of the pictures nearest to a text, best first: python query.py "a red mug" [how many]"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

here = Path(__file__).parent
tokeniser = Tokenizer.from_file(str(here / "tokeniser.json"))
session = onnxruntime.InferenceSession(str(here / "query.onnx"))
pictures = np.load(here / "pictures.npy")

ids = np.array([tokeniser.encode(sys.argv[1]).ids], np.int64)
if not (ids > 1).any():
    sys.exit("error: nothing in this query is known; use other words.")
(vector,) = session.run(["vector"], {"ids": ids})[0]
best = np.argsort(-(pictures @ vector), kind="stable")[: int(sys.argv[2]) if len(sys.argv) > 2 else 10]
print(*best)
'''


def export_text(
    network: nn.Module,
    tokeniser: Tokeniser,
    texts: Sequence[str],
    pictures: np.ndarray,
    names: Sequence[str],
    manifest: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Write ``query.onnx``, ``tokeniser.json``, ``pictures.npy``, ``names.json``, ``query.py`` and ``manifest.json``.

    Args:
        network: finished, in eval mode; ``tokeniser`` is of its own vocabulary.
        texts: to check with.
        pictures: unit vectors ``(N, D)`` that the script searches, called ``names``.

    Returns:
        The check, of the ONNX file against torch and of the script against both.

    Raises:
        RunError: the files do not do what the network did, or ``out`` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise RunError(f"cannot write to {out}: {fault.strerror}; name another --out.") from None
    encoder, ids = UnitEncoder(network).cpu().eval(), tokeniser.encode(texts)
    ids = np.resize(ids, (max(len(ids), _CHECKED), ids.shape[1]))
    expected, partial = run_module(encoder)(ids), out / "query.onnx.partial"
    try:
        write_onnx(trace(encoder, ids[:2]), partial, ("ids",), ("vector",))
        check = check_vectors("query.onnx", run_onnx(partial), ids, expected, "torch")
        partial.replace(out / "query.onnx")
    finally:
        partial.unlink(missing_ok=True)
    tokeniser.save(out / "tokeniser.json")
    np.save(out / "pictures.npy", pictures)
    write_json(out / "names.json", list(names))
    write(out / "query.py", _SCRIPT)
    _, rows = GalleryIndex.build(pictures).search(expected[:1], 10)
    check["script_same_top10"] = ask_script(out, texts[0]) == rows[0].tolist()
    if not check["script_same_top10"]:
        raise RunError(f"{out / 'query.py'} finds other pictures than torch for {texts[0]!r}; do not use this bundle.")
    write_json(out / "manifest.json", {**manifest, "check": check})
    return check


def ask_script(out: Path, text: str) -> list[int]:
    """What the bundle's script answers, in a process that cannot import cmpnas or torch.

    Raises:
        RunError: it fails.
    """
    blocked = "import sys; sys.modules['torch'] = sys.modules['cmpnas'] = None; sys.argv = sys.argv[1:]; "
    run = blocked + "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", run, str((out / "query.py").resolve()), text]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=out)
    if done.returncode:
        raise RunError(f"{out / 'query.py'} fails: {done.stderr.strip().splitlines()[-1:]}")
    return [int(row) for row in done.stdout.split()]
