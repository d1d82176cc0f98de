"""The export bundle: one ONNX file that runs without cmpnas, and the proof that it does what torch did."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.errors import RunError
from cmpnas.files import write_json
from cmpnas.retrieval.index import GalleryIndex

TOLERANCE = 1e-4
_BATCHES = (1, 2, 7)


class UnitEncoder(nn.Module):
    """A network followed by normalisation: ``(N, 3, S, S)`` float in [-1, 1] to unit ``(N, D)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(self.network(images))


def export_bundle(
    network: nn.Module, images: Tensor, index: GalleryIndex, manifest: dict[str, Any], arch: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Write ``query.onnx``, ``arch.json`` and ``manifest.json`` to ``out``.

    Args:
        network: calibrated, in eval mode.
        images: pictures to check with, float ``(N, 3, S, S)`` in [-1, 1], to check with.
        index: the gallery index that the query encoder was found for.
        manifest: what to say of the pair; the check is added to it.

    Returns:
        The check: ``{"max_abs_difference", "unit_norm_error", "same_top10", "batches"}``.

    Raises:
        RunError: the ONNX file does not do what the network did, or ``out`` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise RunError(f"cannot write to {out}: {fault.strerror}; name another --out.") from None
    encoder = UnitEncoder(network).cpu().eval()
    if len(images) < max(_BATCHES):
        images = images.repeat(max(_BATCHES), 1, 1, 1)
    partial = out / "query.onnx.partial"
    try:
        _to_onnx(encoder, images[:2], partial)
        check = _check(encoder, partial, images, index)
        partial.replace(out / "query.onnx")
    finally:
        partial.unlink(missing_ok=True)
    write_json(out / "arch.json", arch)
    write_json(out / "manifest.json", {**manifest, "check": check})
    return check


def _to_onnx(encoder: nn.Module, example: Tensor, path: Path) -> None:
    """One file with a dynamic batch; the exporter's chatter is kept away from the user."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    quiet = io.StringIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            encoder,
            (example.contiguous(),),
            dynamo=True,
            input_names=["images"],
            output_names=["embedding"],
            dynamic_shapes={"images": {0: batch}},
            verbose=False,
        )
    program.save(str(path), external_data=False)  # type: ignore[union-attr]


def _check(encoder: nn.Module, path: Path, images: Tensor, index: GalleryIndex) -> dict[str, Any]:
    """Compare the file with torch at several batch sizes and against the gallery index."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    difference = norm_error = 0.0
    for size in (*_BATCHES, len(images)):
        with torch.inference_mode():
            expected = encoder(images[:size]).numpy()
        (got,) = session.run(None, {"images": images[:size].contiguous().numpy()})
        difference = max(difference, float(np.abs(got - expected).max()))
        norm_error = max(norm_error, float(np.abs(np.linalg.norm(got, axis=1) - 1).max()))
        if not _same_top(index, got, expected):
            raise RunError("the ONNX file finds another top 10 in the gallery index than torch; nothing was exported.")
    if difference > TOLERANCE or norm_error > TOLERANCE:
        raise RunError(
            f"the ONNX file differs from torch by {difference:.2e} (norm by {norm_error:.2e}), more than "
            f"{TOLERANCE:g}; nothing was exported."
        )
    return {
        "max_abs_difference": difference,
        "unit_norm_error": norm_error,
        "same_top10": True,
        "batches": list(_BATCHES),
        "pictures": len(images),
    }


def _same_top(index: GalleryIndex, got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal first ten, but for neighbours whose cosines differ by no more than rounding."""
    (cosine, rows), (other_cosine, other_rows) = index.search(got, 10), index.search(expected, 10)
    return bool(((rows == other_rows) | (np.abs(cosine - other_cosine) < 1e-6)).all())
