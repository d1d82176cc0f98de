"""What of a gallery option comes behind its models: their vectors of an image in, the one vector that is stored out.

As a file of its own it takes vectors that exist already, so nobody needs to look at an image again that its models
have embedded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.export.graph import as_onnx, trace
from cmpnas.gallery.base import Option
from cmpnas.gallery.ensemble import EnsembleGallery, shares_of
from cmpnas.gallery.fusion import FusionGallery
from cmpnas.gallery.transform import MappedGallery
from cmpnas.models.mixer import Mixer


@dataclass(frozen=True)
class Parts:
    """How a gallery option combines what several models say of an image.

    Attributes:
        inputs: by name, in order, the shape of what is said of one image: ``(W,)``, or ``(T, W)`` of local features.
        models: the options whose embeddings in their own spaces the inputs are, of any length where a mixer takes them;
            none where a fusion has a source of local features or of saved ones.
        combine: a list of float32 ``(N, *shape)``, one an input, to a tuple: unit vectors ``(N, D)`` and, where the
            option rejects images, how far its members are apart ``(N,)``.
    """

    inputs: Mapping[str, tuple[int, ...]]
    models: Mapping[str, Option]
    combine: nn.Module
    rejects: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what ``combine`` gives."""
        return ("embedding", "distance") if self.rejects else ("embedding",)

    def graph(self) -> ModelProto:
        """``combine`` as an ONNX graph with an input of each name."""
        example = [np.ones((2, *shape), np.float32) for shape in self.inputs.values()]
        return as_onnx(trace(self.combine.cpu(), example), tuple(self.inputs), self.outputs)


def parts_of(option: Option) -> Parts | None:
    """How ``option`` combines what models say; None for one that is a single model's own vectors."""
    if isinstance(option, MappedGallery):
        name = option.model.settings.name
        return _mapped({name: option}, {name: 1.0}, rejects=False)
    if isinstance(option, EnsembleGallery):
        return _mapped(option.members, option.settings.members, rejects=option.settings.reject is not None)
    if isinstance(option, FusionGallery):
        shapes = {
            entry.name: (width,) if entry.kind == "global" else (tokens, width)
            for entry, (tokens, width) in zip(option.bank.manifest.sources, option.bank.shapes, strict=True)
        }
        models = {source.name: source.model for source in option.sources if source.model is not None}
        return Parts(shapes, models if len(models) == len(option.sources) else {}, Mixed(option.mixer))
    return None


def _mapped(members: Mapping[str, Option], weights: Mapping[str, float], *, rejects: bool) -> Parts:
    """Members, of which only the anchor has no transform."""
    models: dict[str, Option] = {}
    transforms: list[nn.Module] = []
    for name, member in members.items():
        model, transform = (
            (member.model, member.transform) if isinstance(member, MappedGallery) else (member, nn.Identity())
        )
        models[name] = model
        transforms.append(transform)
    inputs = {name: (model.embedding_dim,) for name, model in models.items()}
    return Parts(inputs, models, Mean(transforms, [weights[name] for name in models], rejects), rejects)


class Mean(nn.Module):
    """The unit weighted mean of vectors, each mapped into one space: `cmpnas.gallery.ensemble.combine` as a module."""

    def __init__(self, transforms: Sequence[nn.Module], weights: Sequence[float], rejects: bool) -> None:
        super().__init__()
        self.transforms, self.shares, self.rejects = nn.ModuleList(transforms), shares_of(weights), rejects

    def forward(self, parts: list[Tensor]) -> tuple[Tensor, ...]:
        ready = zip(self.transforms, self.shares, parts, strict=True)
        total = torch.stack([share * F.normalize(own(F.normalize(part))) for own, share, part in ready]).sum(0)
        if not self.rejects:
            return (F.normalize(total),)
        alone = sum(share**2 for share in self.shares)
        return F.normalize(total), ((1 - total.square().sum(1)) / (1 - alone)).clamp_min(0)


class Mixed(nn.Module):
    """A fusion's mixer, from features as its sources give them: a global one ``(N, W)``, local ones ``(N, T, W)``."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, parts: list[Tensor]) -> tuple[Tensor, ...]:
        return (F.normalize(self.mixer([part[:, None] if part.ndim == 2 else part for part in parts])),)
