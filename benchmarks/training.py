"""How fast a supernet trains, and what each option brings.

    python benchmarks/training.py [SPACE] [SIZE]    (default: mobile_small at 64 px)

Whole training steps (pictures, augmentation, loss, optimiser) of `train_supernet` against `train_network` on a static
network of the space's median cost, per multiply-add, in turns; then each option switched against the default,
in turns. Ratios are what to compare: above 1 the first is faster.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from command import as_command
from torch import nn
from torch.nn import functional as F

from cmpnas.compat import Anchor
from cmpnas.cost import Budget
from cmpnas.data.augment import Augment
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.models.network import build_network
from cmpnas.space import SearchSpace, load_space
from cmpnas.train.device import autocast
from cmpnas.train.loop import Plan
from cmpnas.train.network import train_network
from cmpnas.train.supernet import SupernetPlan, train_supernet

_BATCH, _STEPS, _ROUNDS, _DIM = 64, 12, 5, 128
_AUGMENT = Augment(flip=0.5, zoom=0.1, shift=0.1, light=0.1)


def main(name: Annotated[str, typer.Argument()] = "mobile_small", size: Annotated[int, typer.Argument()] = 64) -> None:
    space = load_space(name, size=size, embedding_dim=_DIM)
    items, anchor = pictures(space.size), anchor_of(space)
    drawn = space.sample_many(_STEPS, 0)
    order = np.argsort(drawn.macs)
    static = build_network(space, drawn[int(order[len(order) // 2])])
    work = float(np.mean(drawn.macs) / np.sort(drawn.macs)[len(order) // 2])
    supernet = partial(train_shared, space, anchor, items)
    alone = partial(train_alone, static, anchor, items)
    fair = ratio(supernet, alone)
    print(f"{name} at {space.size} px, batches of {_BATCH}, {torch.get_num_threads()} threads")
    print(f"  supernet over static network, multiply-adds a second:  {fair[0] * work:.3f} {told(fair)}")

    gallery = build_network(load_space("resnet_small", size=space.size, embedding_dim=_DIM), largest("resnet_small"))
    dense = partial(train_alone, gallery, anchor, items)
    encode = encoder(gallery)
    online = partial(train_alone, Followed(static, encode), anchor, items)
    for what, first, second in (
        ("dense network: bf16 over fp32", partial(dense, precision="bf16"), partial(dense, precision="fp32")),
        ("this space: bf16 over fp32", partial(alone, precision="bf16"), partial(alone, precision="fp32")),
        ("channels last over contiguous", alone, partial(train_alone, contiguous(static), anchor, items)),
        ("saved targets over a gallery model run in every step", alone, online),
        ("one path a step over a sandwich of three", supernet, partial(supernet, sampling="sandwich", paths=3)),
    ):
        found = ratio(first, second)
        print(f"  {what:<54} {found[0]:.3f} {told(found)}")


def pictures(size: int) -> Items:
    pixels = torch.randint(256, (_BATCH * _STEPS, 3, size, size), dtype=torch.uint8)
    return Items(ArrayImages(pixels), np.arange(len(pixels)) % 8, None, np.arange(len(pixels)))


def anchor_of(space: SearchSpace) -> Anchor:
    embeddings, centres = (F.normalize(torch.randn(n, space.embedding_dim)) for n in (_BATCH * _STEPS, 8))
    return Anchor(embeddings, torch.arange(_BATCH * _STEPS) % 8, centres, "arcface", 16.0, 0.1)


def largest(name: str):  # type: ignore[no-untyped-def]
    return load_space(name).extremes()[1]


def contiguous(network: nn.Module) -> nn.Module:
    """The same network in torch's default memory format, fed as such."""

    class Contiguous(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(copy.deepcopy(network).children()).to(
                memory_format=torch.contiguous_format  # type: ignore[call-overload]
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.contiguous()
            for layer in self.layers:
                x = layer(x)
            return x

    return Contiguous()


class Followed(nn.Module):
    """A network whose every step also runs the gallery model, as it must where targets are not saved."""

    def __init__(self, network: nn.Module, encode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.network, self.encode = network, encode

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.encode(images)
        return self.network(images)


def encoder(gallery: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    gallery.eval()

    @torch.no_grad()
    def encode(images: torch.Tensor) -> torch.Tensor:
        with autocast(gallery):
            return F.normalize(gallery(images).float())

    return encode


def train_shared(space: SearchSpace, anchor: Anchor, items: Items, **options: object) -> None:
    plan = SupernetPlan(epochs=1, batch_size=_BATCH, lr=1e-3, **options)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        train_supernet(
            space, anchor, {"regression": 1.0}, items, plan,
            budget=Budget(), augmentation=_AUGMENT, seed=0, saved=Path(folder) / "supernet.pt",
        )  # fmt: skip


def train_alone(network: nn.Module, anchor: Anchor, items: Items, **options: object) -> None:
    plan = Plan(epochs=1, batch_size=_BATCH, lr=1e-3, **options)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        train_network(
            network, anchor, {"regression": 1.0}, items, plan,
            augmentation=_AUGMENT, seed=0, saved=Path(folder) / "network.pt",
        )  # fmt: skip


def ratio(first: Callable[[], None], second: Callable[[], None]) -> tuple[float, list[float]]:
    """How many times as fast ``first`` is: the median over rounds of paired times, and the rounds."""
    found = []
    for turn in range(_ROUNDS + 1):
        spent = []
        for work in (first, second):
            start = time.perf_counter()
            work()
            spent.append(time.perf_counter() - start)
        if turn:  # the first is a warm-up
            found.append(spent[1] / spent[0])
    return statistics.median(found), found


def told(found: tuple[float, list[float]]) -> str:
    return f"(rounds from {min(found[1]):.2f} to {max(found[1]):.2f})"


if __name__ == "__main__":
    as_command(main)
