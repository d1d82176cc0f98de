"""A bank and a mixer at the paper's scale, in bounded memory.

    python benchmarks/fusion_scale.py [--count 1000000] [--sources 4] [--width 128] [--folder DIR] [--threads N]

Writes a bank of simulated features (a million pictures of four sources of 128 numbers are a gigabyte), reads all of it
in order, trains the mixer for some steps on rows at random, and mixes all of it into an embedding of each picture, as a
gallery is indexed. Prints pictures a second, of the clock and of the processor, and the most memory that the process
has ever held above what it held before the first row was read. The bank is deleted afterwards.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from command import as_command
from torch.nn import functional as F

from cmpnas.compat import Anchor
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.gallery.bank import Bank, Entry, add_source, begin_bank
from cmpnas.gallery.fusion import FusionGallery
from cmpnas.gallery.settings import FusionSettings
from cmpnas.models.mixer import TransformerMixer
from cmpnas.train.loop import Plan
from cmpnas.train.mixing import Mixing, train_mixer

_CHUNK, _BATCH, _STEPS, _CLASSES = 8192, 256, 100, 1000


def main(
    count: int = 1_000_000,
    sources: int = 4,
    width: int = 128,
    folder: Path | None = None,
    threads: int = 1,
) -> None:
    torch.set_num_threads(threads)
    place = Path(tempfile.mkdtemp(prefix="fusion_scale", dir=folder))
    try:
        measure(place, count, sources, width)
    finally:
        shutil.rmtree(place)


def measure(place: Path, count: int, sources: int, width: int) -> None:
    with timed("write", count):
        bank = simulated(place / "bank", count, sources, width)
    size = sum(file.stat().st_size for file in bank.folder.iterdir())
    mixer = TransformerMixer(bank.shapes, 128, layers=2, heads=4, expansion=2).eval()
    print(f"{count:,} pictures x {sources} sources x {width}: {size / 2**20:,.0f} MiB of features")
    print(f"mixer of {mixer.macs / 1e6:.3f} MFLOPs, {torch.get_num_threads()} threads")
    bank.read(np.arange(_CHUNK))
    before = peak()
    with timed("read in order", count):
        for start in range(0, count, _CHUNK):
            bank.read(np.arange(start, min(start + _CHUNK, count)))
    held("reading", before)

    labels = torch.arange(count) % _CLASSES
    weights = F.normalize(torch.randn(_CLASSES, 128))
    anchor = Anchor(torch.empty(0, 128), labels, weights, "arcface", 16.0, 0.2)
    mixing = Mixing(mixer, bank.read, anchor)
    steps = Plan(epochs=_STEPS / (count // _BATCH), batch_size=_BATCH, lr=1e-3)
    with timed("train the mixer, rows at random", _STEPS * _BATCH):
        train_mixer("mixer", mixing, count, steps, seed=0, saved=place / "checkpoint.pt")
    held("training too", before)

    none = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(count, -1, -1, -1)
    items = Items(ArrayImages(none), labels.numpy(), None, np.arange(count))
    with timed("mix all", count):
        vectors = FusionGallery(SETTINGS, [], bank, mixer, weights.numpy()).embed(items)
    held(f"mixing too, with {vectors.nbytes / 2**20:,.0f} MiB of embeddings made", before)


SETTINGS = FusionSettings.model_validate(
    {
        "kind": "fusion", "name": "scale",
        "sources": [{"kind": "precomputed", "name": "simulated", "file": "none.npy", "mflops": 1}],
    }
)  # fmt: skip


def simulated(folder: Path, count: int, sources: int, width: int) -> Bank:
    """A bank of noise, a chunk at a time."""
    bank = begin_bank(folder, np.arange(count), "simulated")
    for number in range(sources):
        rng = np.random.default_rng(number)
        name = f"source{number}"
        entry = Entry(
            name=name, file=f"{name}.npy", kind="global", images=bank.manifest.images, mflops=1, made_of="noise"
        )
        sizes = [min(_CHUNK, count - start) for start in range(0, count, _CHUNK)]
        chunks = ([rng.standard_normal((size, 1, width), np.float32).astype(np.float16)] for size in sizes)
        bank = add_source(bank, [entry], chunks)
    return bank


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    clock, processor = time.perf_counter(), time.process_time()
    yield
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(
        f"{what}: {count / clock:,.0f} pictures a second of the clock, {count / processor:,.0f} of the processor",
        flush=True,
    )


def peak() -> float:
    """Most memory that the process has held so far, in MiB, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held(what: str, before: float) -> None:
    print(f"  {what}: peak {peak() - before:,.0f} MiB above the {before:,.0f} of before")


if __name__ == "__main__":
    as_command(main)
