"""The embedded products as a table: nothing is stored, every picture is drawn when it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmpnas.data.settings import ShopSettings
from cmpnas.data.shop import Role, render
from cmpnas.data.shop_identities import Identities, draw_identities
from cmpnas.data.table import Table

_PIXELS_AT_ONCE = 64 * 64 * 64  # a batch that stays in the processor's cache


def read(settings: ShopSettings, root: Path | None = None) -> Table:
    """Train, search, test and unlabelled identities in this order; of each, catalogue then consumer shots.

    The ``caption`` says what is to be seen; identities may share one.
    """
    parts_of = {
        "train": (settings.train_identities, settings.train_shots),
        "search": (settings.search_identities, settings.other_shots),
        "test": (settings.test_identities, settings.other_shots),
        "unlabelled": (settings.unlabelled_identities, settings.unlabelled_shots),
    }
    identities = draw_identities(sum(count for count, _ in parts_of.values()), settings.seed)
    parts: dict[str, list[np.ndarray]] = {"label": [], "split": [], "role": [], "view": []}
    first = 0
    for split, (count, shots) in parts_of.items():
        for role, views in zip(("catalogue", "consumer"), shots, strict=True):
            parts["label"].append(np.repeat(np.arange(first, first + count), views))
            parts["view"].append(np.tile(np.arange(views), count))
            parts["split"].append(np.full(count * views, split))
            parts["role"].append(np.full(count * views, role))
        first += count
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    columns["caption"] = np.array(identities.captions)[columns["label"]]
    pictures = ShopImages(identities, columns["label"], columns["view"], columns["role"], settings.seed, settings.size)
    return Table(pictures, columns)


@dataclass(frozen=True)
class ShopImages:
    """Shots of products, rendered on reading."""

    identities: Identities
    who: np.ndarray
    view: np.ndarray
    role: np.ndarray
    seed: int
    size: int

    def __len__(self) -> int:
        return len(self.who)

    def read(self, indices: np.ndarray) -> Tensor:
        indices = np.asarray(indices)
        pictures = torch.empty(len(indices), 3, self.size, self.size, dtype=torch.uint8)
        at_once = max(1, _PIXELS_AT_ONCE // self.size**2)
        for role in ("catalogue", "consumer"):
            places = np.flatnonzero(self.role[indices] == role)
            for start in range(0, len(places), at_once):
                some = places[start : start + at_once]
                pictures[torch.from_numpy(some)] = self._render(indices[some], role)  # type: ignore[arg-type]
        return pictures

    def _render(self, chosen: np.ndarray, role: Role) -> Tensor:
        return render(self.identities, self.who[chosen], self.view[chosen], role, seed=self.seed, size=self.size)
