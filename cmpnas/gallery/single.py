"""One gallery model, trained here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.data.items import Items
from cmpnas.distributed import first_alone
from cmpnas.errors import RunError
from cmpnas.gallery.settings import SingleSettings
from cmpnas.models.heads import MarginClassifier
from cmpnas.models.network import build_network
from cmpnas.space import Arch, SearchSpace, load_space
from cmpnas.train import checkpoint
from cmpnas.train.device import autocast, device
from cmpnas.train.embed import embed
from cmpnas.train.loop import fit


@dataclass(frozen=True)
class SingleGallery:
    """A trained network and the classifier it was trained with."""

    settings: SingleSettings
    mflops: float
    network: nn.Module
    classifier: np.ndarray

    @property
    def embedding_dim(self) -> int:
        return self.settings.embedding_dim

    @torch.no_grad()  # not inference mode: a loss keeps these for its backward pass
    def encoder(self, images: Tensor) -> Tensor:
        """Unit embeddings of ``(B, 3, S, S)`` float images: float32 ``(B, D)``."""
        with autocast(self.network, self.settings.train.precision):
            return F.normalize(self.network(images).float())

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items``, float32 ``(N, D)``."""
        with autocast(self.network, self.settings.train.precision):
            return embed(self.network, items, what=what)


def plan_single(settings: SingleSettings, size: int) -> tuple[SearchSpace, Arch]:
    """The space at the data's size and the architecture that the settings name."""
    space = load_space(settings.space, size=size, embedding_dim=settings.embedding_dim)
    return space, space.named(settings.arch)


def train_single(
    settings: SingleSettings, train: Items, size: int, folder: Path, key: str, *, seed: int, workers: int = 0
) -> None:
    """Train to the end and leave ``model.pt`` in ``folder``; continues from a checkpoint there.

    ``key`` is of all that the model is made of: what was begun of something else is not gone on with.
    """
    space, arch = plan_single(settings, size)
    classes, codes = np.unique(train.labels, return_inverse=True)
    torch.manual_seed(seed)
    network = build_network(space, arch)
    start = torch.randn(len(classes), space.embedding_dim)
    head = MarginClassifier(start, kind=settings.head.kind, margin=settings.head.margin, scale=settings.head.scale)
    labels = torch.from_numpy(codes.astype(np.int64))

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        with autocast(network, settings.train.precision):
            embeddings = network(images)
        return head(embeddings, labels[indices].to(images.device))

    both = nn.ModuleDict({"network": network, "head": head})
    saved = folder / f"checkpoint.{key}.pt"
    fit(
        f"gallery {settings.name}", both, loss_at, train, settings.train,
        augmentation=settings.augment, seed=seed, saved=saved, workers=workers,
    )  # fmt: skip
    with first_alone() as first:
        if first:
            state = {"key": key, "network": network.state_dict(), "classifier": head.weight.detach().cpu()}
            checkpoint.save(state, folder / "model.pt")
            saved.unlink()


def load_single(settings: SingleSettings, size: int, folder: Path, key: str) -> SingleGallery:
    """Read back what `train_single` left.

    Raises:
        RunError: it is missing, damaged, of another architecture, or made of something else than ``key``.
    """
    space, arch = plan_single(settings, size)
    path = folder / "model.pt"
    state = checkpoint.load_of(key, path)
    network = build_network(space, arch)
    checkpoint.restore(network, state, "network", path, arch.id)
    if not isinstance(state.get("classifier"), Tensor):
        raise RunError(f"{path} holds no classifier; delete it and repeat the command with --resume.")
    return SingleGallery(settings, space.cost(arch).mflops, network.to(device()).eval(), state["classifier"].numpy())
