"""Mapping one model's embeddings into another's space, learned from pictures that both have embedded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.compat import Anchor, Batch, CompatLoss
from cmpnas.data.augment import Augment
from cmpnas.data.items import Items, blank
from cmpnas.distributed import first_alone
from cmpnas.errors import DataError
from cmpnas.gallery.base import Gallery
from cmpnas.gallery.settings import TransformSettings
from cmpnas.models.ridge import fit_linear
from cmpnas.retrieval.similarity import unit_rows
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.loop import fit

_NARROW = 16  # width of a bottleneck
_TIMES = 4  # bottlenecks beside or behind one another
_ROWS_AT_ONCE = 65_536


class _Bottleneck(nn.Sequential):
    """``x`` plus what passes through narrower layers, which at first is nothing."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        last = [layer for layer in layers if isinstance(layer, nn.Linear | nn.BatchNorm1d)][-1]
        for values in last.parameters():
            nn.init.zeros_(values)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class _Parallel(nn.ModuleList):
    """``x`` plus several bottlenecks of it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + sum(path(x) - x for path in self)


def _layer(width: int, to: int) -> list[nn.Module]:
    return [nn.Linear(width, to, bias=False), nn.BatchNorm1d(to), nn.PReLU()]


def _parallel(d: int) -> nn.Module:
    paths = [[*_layer(d, _NARROW), *_layer(_NARROW, _NARROW), *_layer(_NARROW, d)] for _ in range(_TIMES)]
    return _Parallel(_Bottleneck(*path) for path in paths)


def _wide(d: int) -> nn.Module:
    return _Bottleneck(*_layer(d, max(1, d // 2)), *_layer(max(1, d // 2), d))


def _sequential(d: int) -> nn.Module:
    return nn.Sequential(*(_Bottleneck(nn.Linear(d, _NARROW), nn.ReLU(), nn.Linear(_NARROW, d)) for _ in range(_TIMES)))


#: What follows the linear map of a transform, by name. ``linear``: nothing. The residual bottlenecks (RBT) of three
#: public codes: ``parallel``, four of width 16 beside each other (LCE); ``wide``, one of half the width (SSP);
#: ``sequential``, four of width 16 behind each other, without BatchNorm (AdvBCT).
KINDS: dict[str, Callable[[int], nn.Module]] = {
    "linear": lambda d: nn.Identity(),
    "parallel": _parallel,
    "wide": _wide,
    "sequential": _sequential,
}


class Transform(nn.Module):
    """A linear map from ``width`` to ``dim`` numbers, and residual bottlenecks on top: ``(B, width)`` to ``(B, dim)``.

    Independent models share no axes, so that a residual alone, as between versions of one model, has nothing to add to.
    """

    def __init__(self, kind: str, width: int, dim: int) -> None:
        super().__init__()
        self.width, self.dim = width, dim
        self.enter = nn.Linear(width, dim)
        self.body = KINDS[kind](dim)

    @property
    def macs(self) -> int:
        """Multiply-adds of one vector."""
        return sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))

    def start_at(self, source: np.ndarray, target: np.ndarray) -> None:
        """Begin with the linear map of least squares from ``source`` ``(N, width)`` to ``target`` ``(N, dim)``."""
        fit_linear(self.enter, source, target)

    @torch.no_grad()
    def apply_to(self, source: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """Unit vectors ``(N, dim)`` of ``source`` ``(N, width)``, float32; both may be memory maps.

        Args:
            into: where to write them, by default a new array.

        Raises:
            DataError: the vectors are of another width, or not finite.
        """
        if source.ndim != 2 or source.shape[1] != self.width:
            raise DataError(f"vectors of shape {source.shape} are given to a transform that takes (N, {self.width}).")
        result = np.empty((len(source), self.dim), np.float32) if into is None else into
        where = self.enter.weight.device
        for start in range(0, len(source), _ROWS_AT_ONCE):
            rows = unit_rows(source[start : start + _ROWS_AT_ONCE], "gallery")
            result[start : start + len(rows)] = F.normalize(self(torch.from_numpy(rows).to(where))).cpu().numpy()
        return result

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(self.enter(x))
        return result


@dataclass(frozen=True)
class MappedGallery:
    """A gallery model and the transform that takes its embeddings into the anchor's space."""

    model: Gallery
    transform: Transform

    @property
    def mflops(self) -> float:
        return self.model.mflops + self.transform.macs / 1e6

    @property
    def embedding_dim(self) -> int:
        return self.transform.dim

    def embed(self, items: Items, what: str | None = None) -> np.ndarray:
        """Unit embeddings of ``items`` in the anchor's space, float32 ``(N, D)``."""
        return self.transform.apply_to(self.model.embed(items, what))


def train_transform(name: str, settings: TransformSettings, source: np.ndarray, anchor: Anchor, path: Path) -> None:
    """Train to the end on embeddings alone and leave the weights in ``path``; continues from a checkpoint beside it.

    Args:
        name: of the gallery option, shown in progress.
        source: float ``(N, width)``, unit: the option's own embeddings of the anchor's pictures.

    Raises:
        DataError: they are not of as many pictures.
    """
    if len(source) != len(anchor.embeddings):
        raise DataError(
            f"gallery {name!r} has embeddings of {len(source)} pictures, the anchor of {len(anchor.embeddings)}; "
            "embed the same pictures with both."
        )
    torch.manual_seed(settings.seed)
    transform = Transform(settings.kind, source.shape[1], anchor.embeddings.shape[1])
    transform.start_at(source, anchor.embeddings.numpy())
    saved = path.with_name("checkpoint.pt")
    learn(name, transform, settings, source, anchor, saved)
    with first_alone() as first:
        if first:
            checkpoint.save({"transform": transform.state_dict()}, path)
            saved.unlink()


def learn(
    name: str, module: nn.Module, settings: TransformSettings, source: np.ndarray, anchor: Anchor, saved: Path
) -> None:
    """Teach ``module`` in place to take rows of ``source`` to the anchor's embeddings of the same pictures."""
    loss = CompatLoss(settings.loss, anchor)

    def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        mapped = module(torch.from_numpy(np.asarray(source[indices.numpy()], np.float32)).to(images.device))
        return loss(Batch(mapped, *(known.to(images.device) for known in anchor.look(indices, view))))

    # The loop deals out pictures; what is learned from are the embeddings of the same indices.
    both = nn.ModuleDict({"transform": module, "loss": loss})
    fit(
        f"transform {name}", both, loss_at, blank(len(source)), settings.train,
        augmentation=Augment(), seed=settings.seed, saved=saved,
    )  # fmt: skip


def load_transform(settings: TransformSettings, width: int, dim: int, path: Path) -> Transform:
    """Read back what `train_transform` left.

    Raises:
        RunError: it is missing, damaged, or of other widths or another kind.
    """
    transform = Transform(settings.kind, width, dim)
    what = f"a {settings.kind} transform from {width} to {dim} numbers"
    checkpoint.restore(transform, checkpoint.load(path), "transform", path, what)
    return transform.to(device()).eval()
