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
from cmpnas.export.bundle import MANIFEST, ONNX, describe_files, whole_or_absent
from cmpnas.export.graph import run_module, run_onnx, trace, write_onnx
from cmpnas.export.pictures import UnitEncoder
from cmpnas.export.proof import TIE, check_vectors
from cmpnas.files import write, write_json
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



def fail(message):
    print("error: " + message, file=sys.stderr)
    sys.exit(2)


many = sys.argv[2] if len(sys.argv) > 2 else "10"
if len(sys.argv) not in (2, 3) or not many.isdigit():
    fail('give a query and how many rows, as in: python query.py "a red mug" 10')
ids = np.array([tokeniser.encode(sys.argv[1]).ids], np.int64)
tokeniser.no_truncation()
if len(tokeniser.encode(sys.argv[1]).ids) > ids.shape[1]:
    fail(f"this query is longer than {ids.shape[1]} tokens; shorten it.")
if not (ids > 1).any():
    fail("nothing in this query is known; use other words.")
(vector,) = session.run(["vector"], {"ids": ids})[0]
best = np.argsort(-(pictures @ vector), kind="stable")[: int(many)]
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
    """Write ``query.onnx``, ``tokeniser.json``, ``pictures.npy``, ``names.json``, ``query.py`` and ``manifest.json``,
    all of them or none.

    Args:
        network: finished, in eval mode; ``tokeniser`` is of its own vocabulary.
        texts: to check with.
        pictures: unit vectors ``(N, D)`` that the script searches, called ``names``.

    Returns:
        The check, of the ONNX file against torch and of the script against both.

    Raises:
        RunError: the files do not do what the network did, or ``out`` cannot be written.
    """
    encoder, ids = UnitEncoder(network).cpu().eval(), tokeniser.encode(texts)
    ids = np.resize(ids, (max(len(ids), _CHECKED), ids.shape[1]))
    expected = run_module(encoder)(ids)
    with whole_or_absent(out) as folder:
        write_onnx(trace(encoder, ids[:2]), folder / ONNX, ("ids",), ("vector",))
        check = check_vectors(ONNX, run_onnx(folder / ONNX), ids, expected, "torch")
        tokeniser.save(folder / "tokeniser.json")
        np.save(folder / "pictures.npy", pictures)
        write_json(folder / "names.json", list(names))
        write(folder / "query.py", _SCRIPT)
        query = _not_cut(texts[0], tokeniser)
        vector = run_module(encoder)(tokeniser.encode([query]))[0]
        found = pictures[ask_script(folder, query)] @ vector
        best = -np.sort(-(pictures @ vector))[: len(found)]  # of equal ones either may come first
        if np.abs(found - best).max() > TIE:
            raise RunError(f"query.py finds other pictures than torch for {query!r}.")
        check["script_same_top10"] = True
        write_json(folder / MANIFEST, {**manifest, "check": check, "files": describe_files(folder)})
    return check


def _not_cut(text: str, tokeniser: Tokeniser) -> str:
    """As many words of a caption as a query may have."""
    words = text.split()
    while len(words) > 1 and tokeniser.cut([" ".join(words)]):
        words.pop()
    return " ".join(words)


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
