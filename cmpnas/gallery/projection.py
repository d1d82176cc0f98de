"""A linear projection on top of a finished model: trained here, or computed in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.data.augment import Augment
from cmpnas.data.items import Items, blank
from cmpnas.distributed import first_alone
from cmpnas.errors import RunError
from cmpnas.files import read_npy, write_npy
from cmpnas.gallery.brought import BATCH, BroughtGallery
from cmpnas.gallery.frozen import FrozenModel
from cmpnas.gallery.settings import AnyBrought, AnyProjection, SoftmaxProjection, WhiteningProjection
from cmpnas.gallery.whitening import whitening
from cmpnas.models.heads import MarginClassifier
from cmpnas.models.mixer import levelled_linear
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.embed import embed
from cmpnas.train.loop import fit


def make_projection(
    settings: AnyBrought, plan: AnyProjection, model: FrozenModel, train: Items, folder: Path, *, seed: int
) -> None:
    """Make it of the model's features of ``train`` and leave ``model.pt`` in ``folder``; a training continues.

    Raises:
        RecipeError: the features do not have as many directions as are wanted.
    """
    kept = folder / f"features.{model.fingerprint}.npy"
    with first_alone() as first:
        if first and not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_npy(kept, embed(model, train, batch_size=BATCH, what=f"embed {settings.name}"))
    features = read_npy(kept, "delete it and use --resume")
    torch.manual_seed(seed)
    projection = levelled_linear(model.width, plan.dim)
    _, labels = np.unique(train.labels, return_inverse=True)
    if isinstance(plan, WhiteningProjection):
        classifier = _whiten(projection, plan, features, labels)
    else:
        what, saved = f"gallery {settings.name}", folder / "checkpoint.pt"
        classifier = _train(projection, plan, features, labels, what, saved, seed)
    with first_alone() as first:
        if first:
            state = {"model": model.fingerprint, "projection": projection.state_dict(), "classifier": classifier.cpu()}
            checkpoint.save(state, folder / "model.pt")
            (folder / "checkpoint.pt").unlink(missing_ok=True)
            kept.unlink()


def load_projected(settings: AnyBrought, plan: AnyProjection, model: FrozenModel, folder: Path) -> BroughtGallery:
    """The model with the projection that `make_projection` left.

    Raises:
        RunError: it is missing, damaged, or of another model.
    """
    path = folder / "model.pt"
    state = checkpoint.load(path)
    projection = levelled_linear(model.width, plan.dim)
    checkpoint.restore(projection, state, "projection", path, f"a projection to {plan.dim} numbers")
    if state.get("model") != model.fingerprint or not isinstance(state.get("classifier"), Tensor):
        raise RunError(f"{path} is of another model; delete it and repeat the command with --resume.")
    mflops = model.mflops + model.width * plan.dim / 1e6
    network = nn.Sequential(model, projection.to(device())).eval()
    return BroughtGallery(settings, mflops, plan.dim, network, state["classifier"].numpy())


@torch.no_grad()
def _whiten(projection: nn.Sequential, plan: WhiteningProjection, features: np.ndarray, labels: np.ndarray) -> Tensor:
    """Set the layer in closed form; the class means of what it gives, float32 ``(K, dim)``."""
    inputs = projection[0](torch.tensor(features))
    linear = cast(nn.Linear, projection[1])
    weight, bias = whitening(inputs.numpy(), labels, plan.dim, plan.shrinkage)
    linear.weight.copy_(torch.from_numpy(weight))
    linear.bias.copy_(torch.from_numpy(bias))
    means = torch.zeros(labels.max() + 1, plan.dim)
    return means.index_add_(0, torch.from_numpy(labels), F.normalize(linear(inputs)))


def _train(
    projection: nn.Sequential,
    plan: SoftmaxProjection,
    features: np.ndarray,
    labels: np.ndarray,
    what: str,
    saved: Path,
    seed: int,
) -> Tensor:
    """Train the layer with an angular-margin softmax; its class weights, float32 ``(K, dim)``."""
    start = torch.randn(labels.max() + 1, plan.dim)
    head = MarginClassifier(start, kind=plan.head.kind, margin=plan.head.margin, scale=plan.head.scale)
    codes = torch.from_numpy(labels.astype(np.int64))

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        embeddings = projection(torch.from_numpy(features[indices.numpy()]).to(images.device))
        return head(embeddings, codes[indices].to(images.device))

    both = nn.ModuleDict({"projection": projection, "head": head})
    fit(what, both, loss_at, blank(len(labels)), plan.train, augmentation=Augment(), seed=seed, saved=saved)
    return head.weight.detach()
