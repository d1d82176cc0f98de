"""A finished model that the user brings, and a projection on top of it that is trained here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.data.augment import Augment
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.data.load import data_file
from cmpnas.data.settings import DataSettings
from cmpnas.distributed import first_alone
from cmpnas.errors import DataError, RunError
from cmpnas.gallery.frozen import FrozenModel
from cmpnas.gallery.settings import AnyBrought, OnnxSettings, ProjectionSettings, TimmSettings
from cmpnas.models.heads import MarginClassifier
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.embed import embed
from cmpnas.train.loop import fit

_BATCH = 64  # pictures of a large model's size


@dataclass(frozen=True)
class BroughtGallery:
    """A frozen model, with the classifier of its projection if it has one."""

    settings: AnyBrought
    mflops: float
    embedding_dim: int
    network: nn.Module
    classifier: np.ndarray | None

    @torch.no_grad()  # not inference mode: a loss keeps these for its backward pass
    def encoder(self, images: Tensor) -> Tensor:
        """Unit embeddings of ``(B, 3, S, S)`` float images, on their device: float32 ``(B, D)``."""
        return F.normalize(self.network(images))

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items``, float32 ``(N, D)``."""
        return embed(self.network, items, batch_size=_BATCH, what=what)


def open_model(settings: AnyBrought, data: DataSettings, given: str | None) -> FrozenModel:
    """Open what the settings name; ``given`` is the data folder.

    Raises:
        DataError: it is missing, damaged, or no encoder of pictures.
    """
    from cmpnas.gallery.onnx import open_onnx
    from cmpnas.gallery.timm import open_timm
    from cmpnas.gallery.torchscript import open_torchscript

    try:
        if isinstance(settings, TimmSettings):
            return open_timm(settings, data.size)
        path = data_file(data, given, settings.file)
        if isinstance(settings, OnnxSettings):
            return open_onnx(settings, path, data.size)
        return open_torchscript(settings, path, data.size)
    except DataError as fault:
        raise DataError(f"gallery {settings.name!r}: {fault}") from None


def as_it_is(settings: AnyBrought, model: FrozenModel) -> BroughtGallery:
    """The model's own features as embeddings."""
    return BroughtGallery(settings, model.mflops, model.width, model, None)


def train_projection(
    settings: AnyBrought, plan: ProjectionSettings, model: FrozenModel, train: Items, folder: Path, *, seed: int
) -> None:
    """Train to the end on the model's features and leave ``model.pt`` in ``folder``; continues from a checkpoint."""
    kept = folder / f"features.{model.fingerprint}.npy"
    with first_alone() as first:
        if first and not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".partial.npy")
            np.save(partial, embed(model, train, batch_size=_BATCH, what=f"embed {settings.name}"))
            partial.replace(kept)
    features = np.load(kept, mmap_mode="r")
    classes, codes = np.unique(train.labels, return_inverse=True)
    labels = torch.from_numpy(codes.astype(np.int64))
    torch.manual_seed(seed)
    projection = _projection(model.width, plan.dim)
    start = torch.randn(len(classes), plan.dim)
    head = MarginClassifier(start, kind=plan.head.kind, margin=plan.head.margin, scale=plan.head.scale)

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        embeddings = projection(torch.from_numpy(features[indices.numpy()]).to(images.device))
        return head(embeddings, labels[indices].to(images.device))

    # The loop deals out pictures; what is learned from are the features of the same indices.
    blank = Items(ArrayImages(torch.zeros(len(train), 3, 1, 1, dtype=torch.uint8)), train.labels, None, train.rows)
    both = nn.ModuleDict({"projection": projection, "head": head})
    saved = folder / "checkpoint.pt"
    fit(f"gallery {settings.name}", both, loss_at, blank, plan.train, augmentation=Augment(), seed=seed, saved=saved)
    with first_alone() as first:
        if first:
            state = {
                "model": model.fingerprint,
                "projection": projection.state_dict(),
                "classifier": head.weight.detach().cpu(),
            }
            checkpoint.save(state, folder / "model.pt")
            saved.unlink()
            kept.unlink()


def load_projected(settings: AnyBrought, plan: ProjectionSettings, model: FrozenModel, folder: Path) -> BroughtGallery:
    """The model with the projection that `train_projection` left.

    Raises:
        RunError: it is missing, damaged, or of another model.
    """
    path = folder / "model.pt"
    state = checkpoint.load(path)
    projection = _projection(model.width, plan.dim)
    checkpoint.restore(projection, state, "projection", path, f"a projection to {plan.dim} numbers")
    if state.get("model") != model.fingerprint or not isinstance(state.get("classifier"), Tensor):
        raise RunError(f"{path} is of another model; delete it and repeat the command with --resume.")
    mflops = model.mflops + model.width * plan.dim / 1e6
    network = nn.Sequential(model, projection.to(device())).eval()
    return BroughtGallery(settings, mflops, plan.dim, network, state["classifier"].numpy())


def _projection(width: int, dim: int) -> nn.Sequential:
    """A linear layer that features of any length reach alike."""
    return nn.Sequential(nn.RMSNorm(width, eps=1e-12, elementwise_affine=False), nn.Linear(width, dim))
