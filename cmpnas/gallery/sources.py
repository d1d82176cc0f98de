"""The sources of a fusion: frozen models and saved arrays, read as features of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.data.images import to_float
from cmpnas.data.items import Items
from cmpnas.data.load import data_file
from cmpnas.data.readers.npz import read_npz
from cmpnas.data.settings import DataSettings
from cmpnas.errors import DataError
from cmpnas.files import hash_file, hash_of, read_npy
from cmpnas.gallery.bank import Bank, Entry, Kind, add_source
from cmpnas.gallery.base import Gallery
from cmpnas.gallery.brought import as_it_is, open_model
from cmpnas.gallery.local import local_tokens
from cmpnas.gallery.settings import AnyBrought, LocalSettings, PrecomputedSettings, SingleSettings
from cmpnas.gallery.single import SingleGallery
from cmpnas.progress import track
from cmpnas.train.device import autocast, device

Encode = Callable[[Tensor], list[Tensor]]

_BATCH = 64


@dataclass(frozen=True)
class FeatureSource:
    """Something that gives one or two kinds of features of each picture.

    Attributes:
        kinds: ``global``, ``local`` or both, in the order of what is given.
        mflops: million multiply-adds an image, all kinds together.
        key: of everything that it is made of.
        look: items and numbers of some, int64 ``(B,)``, to features ``(B, T, W)`` of each kind.
        encode: the same of float images ``(B, 3, S, S)`` in [-1, 1]; None where there is no model.
        model: what gives a global feature and nothing else; None where there is more, or no model.
    """

    name: str
    kinds: tuple[Kind, ...]
    mflops: float
    key: str
    look: Callable[[Items, np.ndarray], list[Tensor]]
    encode: Encode | None = None
    model: Gallery | None = None

    @property
    def names(self) -> list[str]:
        """Of its arrays in a bank: the local features of a model stand beside its global one."""
        return [self.name if number == 0 else f"{self.name}.{kind}" for number, kind in enumerate(self.kinds)]

    def read(self, items: Items, indices: np.ndarray) -> list[np.ndarray]:
        """Features of some of ``items``: of each kind float16 ``(B, T, W)``, as a bank keeps them.

        A vector's own scale is left out: a mixer does not look at it, and so half precision holds any model's numbers.
        """
        return [as_kept(part) for part in self.look(items, indices)]

    def add_to(self, bank: Bank, items: Items) -> Bank:
        """Run over the pictures of ``bank``, which ``items`` are, and keep what comes out."""
        entries = [
            Entry(
                name=name, file=f"{name}.npy", kind=kind, images=bank.manifest.images,
                mflops=0.0 if number else self.mflops, made_of=self.key,
            )
            for number, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True))
        ]  # fmt: skip
        return add_source(bank, entries, self._chunks(items))

    def _chunks(self, items: Items) -> Iterator[list[np.ndarray]]:
        starts = range(0, len(items), _BATCH)
        for start in track(starts, f"embed {self.name}", total=len(starts)):
            yield self.read(items, np.arange(start, min(start + _BATCH, len(items))))


def as_kept(features: Tensor) -> np.ndarray:
    """Vectors of mean square 1, float16; zeros stay zeros."""
    scale = features.float().square().mean(-1, keepdim=True).sqrt()
    unit = features.float() / scale.clamp_min(torch.finfo(torch.float32).tiny)
    kept: np.ndarray = unit.cpu().numpy().astype(np.float16)
    return kept


def of_brought(
    settings: AnyBrought, local: LocalSettings | None, data: DataSettings, given: str | None
) -> FeatureSource:
    """A finished model that the user brings.

    Raises:
        DataError: it cannot be opened, or gives no such map.
    """
    model = open_model(settings, data, given, None if local is None else local.output)

    @torch.no_grad()
    def encode(images: Tensor) -> list[Tensor]:
        if local is None:
            return [model(images)[:, None]]
        features, maps = model.with_map(images)
        return [features[:, None], local_tokens(maps, local.tokens, local.by)]

    key = _key(model.fingerprint, settings, local)
    alone = as_it_is(settings, model) if local is None else None
    return FeatureSource(settings.name, _kinds(local), model.mflops, key, _looking(encode), encode, alone)


def of_single(option: SingleGallery, local: LocalSettings | None, made_of: str) -> FeatureSource:
    """A gallery model trained here; ``made_of`` is the hash of its weights."""
    *_, last = option.network.children()

    @torch.no_grad()
    def encode(images: Tensor) -> list[Tensor]:
        with autocast(option.network, option.settings.train.precision), _Input(last) as seen:
            found = [option.network(images).float()[:, None]]
        if local is not None:
            found.append(local_tokens(seen.maps.float(), local.tokens, local.by))
        return found

    key = _key(made_of, option.settings, local)
    alone = option if local is None else None
    return FeatureSource(option.settings.name, _kinds(local), option.mflops, key, _looking(encode), encode, alone)


def of_saved(settings: PrecomputedSettings, data: DataSettings, given: str | None, total: int) -> FeatureSource:
    """Features in a file, row ``i`` for item ``i`` of a data set of ``total`` items: ``embeddings`` of an npz, or an
    npy of ``(N, W)`` global or ``(N, T, W)`` local ones, which stays on disk.

    Raises:
        DataError: it is missing or damaged, or has another form.
    """
    path = data_file(data, given, settings.file)
    array = _open_array(path)
    if array.ndim not in (2, 3) or len(array) != total or array.dtype.kind != "f":
        raise DataError(
            f"source {settings.name!r}: {path.name} holds {array.dtype} {array.shape}; features of this data set are "
            f"({total}, W) or ({total}, T, W) floats."
        )

    def look(items: Items, indices: np.ndarray) -> list[Tensor]:
        taken = torch.from_numpy(array[items.rows[indices]].astype(np.float32))
        return [taken[:, None] if taken.ndim == 2 else taken]

    kind: Kind = "global" if array.ndim == 2 else "local"
    return FeatureSource(settings.name, (kind,), settings.mflops, hash_of(hash_file(path)), look)


def _looking(encode: Encode) -> Callable[[Items, np.ndarray], list[Tensor]]:
    return lambda items, indices: encode(to_float(items.images.read(indices)).to(device()))


class _Input:
    """Notes what a module is given while the block lasts."""

    maps: Tensor

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __enter__(self) -> _Input:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            self.maps = given[0]

        self._hook = self._module.register_forward_pre_hook(note)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def _open_array(path: Path) -> np.ndarray:
    if path.suffix != ".npy":
        return read_npz(path, "embeddings")["embeddings"]
    return read_npy(path, "save it again with numpy.save", DataError)


def _kinds(local: LocalSettings | None) -> tuple[Kind, ...]:
    return ("global",) if local is None else ("global", "local")


def _key(made_of: str, settings: AnyBrought | SingleSettings, local: LocalSettings | None) -> str:
    shown = None if local is None else local.model_dump(mode="json")
    return hash_of(made_of, settings.model_dump(mode="json", exclude={"name"}), shown)
