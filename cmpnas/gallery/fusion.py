"""Several frozen models mixed into one gallery option (AFF, Wu et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat import Anchor
from cmpnas.data.items import Items
from cmpnas.errors import DataError, RunError
from cmpnas.gallery.bank import Bank, begin_bank, filling
from cmpnas.gallery.base import coded
from cmpnas.gallery.settings import FusionSettings, WhiteningMixerSettings
from cmpnas.gallery.sources import FeatureSource
from cmpnas.gallery.whitening import whitening
from cmpnas.models.mixer import MIXERS, Mixer, Shape
from cmpnas.progress import track
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.mixing import Mixing, Read

_BATCH = 256


@dataclass(frozen=True)
class FusionGallery:
    """A trained mixer over a bank, and over the models themselves for pictures that are not in it."""

    settings: FusionSettings
    sources: Sequence[FeatureSource]
    bank: Bank
    mixer: Mixer
    classifier: np.ndarray

    @property
    def mflops(self) -> float:
        """Those of all sources and of the mixer."""
        return sum(source.mflops for source in self.sources) + self.mixer.macs / 1e6

    @property
    def embedding_dim(self) -> int:
        return self.settings.embedding_dim

    @property
    def encoder(self) -> Callable[[Tensor], Tensor] | None:
        """None where a source is saved features."""
        encoders = [source.encode for source in self.sources]
        if None in encoders:
            return None

        @torch.no_grad()  # not inference mode: a loss keeps these for its backward pass
        def encode(images: Tensor) -> Tensor:
            return self._mix([part for run in encoders if run is not None for part in run(images)])

        return encode

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items``, float32 ``(N, D)``."""
        saved = self.bank.holds(items.rows)
        starts: Sequence[int] = range(0, len(items), _BATCH)
        vectors = np.empty((len(items), self.embedding_dim), np.float32)
        for start in starts if what is None else track(starts, what, total=len(starts)):
            indices = np.arange(start, min(start + _BATCH, len(items)))
            if saved:
                found = self.bank.read(items.rows[indices])
            else:
                fresh = [part for source in self.sources for part in source.read(items, indices)]
                found = [torch.from_numpy(part.astype(np.float32)) for part in fresh]
            with torch.inference_mode():
                vectors[indices] = self._mix(found).cpu().numpy()
        return vectors

    def _mix(self, features: list[Tensor]) -> Tensor:
        return F.normalize(self.mixer([part.to(device()) for part in features]).float())


def fill_bank(
    folder: Path, sources: Sequence[FeatureSource], items: Items, data: str, say: Callable[[str], None] = print
) -> Bank:
    """The bank in ``folder`` of ``items``, with whatever of ``sources`` is missing embedded: each once.

    Args:
        items: ascending by row.
        data: fingerprint of the data set.

    Raises:
        DataError: ``folder`` is something else, or holds a source of one's name that is of another model.
    """
    with filling(folder):
        bank = begin_bank(folder, items.rows, data)
        for source in sources:
            made_of = {entry.name: entry.made_of for entry in bank.manifest.sources}
            for name in source.names:
                if made_of.get(name, source.key) != source.key:
                    raise DataError(
                        f"source {name!r} of {folder} is of another model or other settings; give it another name."
                    )
            if not set(source.names) <= made_of.keys():
                say(f"gallery: the features of {source.name!r} on {len(items):,} images")
                bank = source.add_to(bank, items)
    return bank.only(name for source in sources for name in source.names)


def begin_mixing(settings: FusionSettings, bank: Bank, items: Items, train: Items, seed: int) -> tuple[Anchor, Mixing]:
    """A mixer that has learned nothing, and the space that it begins as: random weights of the classes of ``train``,
    and no embeddings. It will learn from ``items``."""
    classes, labels = coded(items, train)
    torch.manual_seed(seed)
    mixer = _make(settings, bank.shapes)
    weights = F.normalize(torch.randn(len(classes), settings.embedding_dim))
    head = settings.head
    start = Anchor(torch.empty(0, settings.embedding_dim), labels, weights, head.kind, head.scale, head.margin)
    return start, Mixing(mixer, reader(bank, items), start, settings.momentum)


def reader(bank: Bank, items: Items) -> Read:
    """Features of ``items`` by their numbers."""
    return lambda indices: bank.read(items.rows[indices])


def save_mixing(mixing: Mixing, path: Path) -> None:
    """Write what `load_fusion` reads."""
    state = {"mixer": mixing.mixer.state_dict(), "classifier": mixing.head.weight.detach().cpu()}
    checkpoint.save(state, path)


@torch.no_grad()
def save_whitened(settings: FusionSettings, bank: Bank, train: Items, path: Path) -> None:
    """Compute a mixer of kind ``whitening`` of the features of ``train``, and write what `load_fusion` reads.

    The features of all sources stand side by side, each source's at length 1 (of its local ones the mean), so that all
    count alike; see `whitening`. The classifier is of class means.

    Raises:
        RecipeError: the features do not have as many directions as are wanted.
    """
    mixer, how = _make(settings, bank.shapes), cast(WhiteningMixerSettings, settings.mixer)
    widths = [width for _, width in bank.shapes]
    _, labels = np.unique(train.labels, return_inverse=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        shape = (len(train), sum(widths))
        side_by_side = np.lib.format.open_memmap(Path(folder) / "f.npy", mode="w+", dtype=np.float32, shape=shape)
        for rows in _parts(len(train)):
            parts = zip(mixer.project, bank.read(train.rows[rows]), widths, strict=True)
            side_by_side[rows] = torch.cat([p[0](x).mean(1) / w**0.5 for p, x, w in parts], 1)  # type: ignore[index]
        weight, bias = whitening(side_by_side, labels, settings.embedding_dim, how.shrinkage)
    columns = torch.from_numpy(weight).split(widths, dim=1)
    for n, (project, own, width) in enumerate(zip(mixer.project, columns, widths, strict=True)):
        linear = cast(nn.Linear, project[1])  # type: ignore[index]
        linear.weight.copy_(own / width**0.5)
        linear.bias.copy_(torch.from_numpy(bias) if n == 0 else torch.zeros(len(bias)))
    means = torch.zeros(labels.max() + 1, settings.embedding_dim)
    for rows in _parts(len(train)):
        means.index_add_(0, torch.from_numpy(labels[rows]), F.normalize(mixer(bank.read(train.rows[rows]))))
    checkpoint.save({"mixer": mixer.state_dict(), "classifier": means}, path)


def _parts(n: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, n, _BATCH))


def load_fusion(settings: FusionSettings, sources: Sequence[FeatureSource], bank: Bank, path: Path) -> FusionGallery:
    """The option with the mixer that `save_mixing` left.

    Raises:
        RunError: it is missing, damaged, or of other features.
    """
    state = checkpoint.load(path)
    mixer = _make(settings, bank.shapes)
    checkpoint.restore(mixer, state, "mixer", path, f"a mixer of {', '.join(bank.names)}")
    if not isinstance(state.get("classifier"), Tensor):
        raise RunError(f"{path} holds no classifier; delete it and repeat the command with --resume.")
    return FusionGallery(settings, sources, bank, mixer.to(device()).eval(), state["classifier"].numpy())


def _make(settings: FusionSettings, shapes: Sequence[Shape]) -> Mixer:
    options = settings.mixer.model_dump(exclude={"kind", "shrinkage"})
    return MIXERS[settings.mixer.kind](shapes, settings.embedding_dim, **options)
