"""Mixers: features of several frozen gallery models of one picture turned into one embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Of one source: how many vectors of a picture (1: a global feature), and their width.
Shape = tuple[int, int]


def levelled_linear(width: int, dim: int) -> nn.Sequential:
    """A linear layer that features of any length reach alike: ``(..., width)`` to ``(..., dim)``."""
    return nn.Sequential(nn.RMSNorm(width, eps=1e-12, elementwise_affine=False), nn.Linear(width, dim))


class Mixer(nn.Module):
    """Features of each source, float ``(B, T_i, W_i)``, to ``(B, dim)``, not normalised.

    Every source has a projection of its own to tokens of width ``dim``.
    """

    def __init__(self, shapes: Sequence[Shape], dim: int) -> None:
        super().__init__()
        self.shapes, self.dim = tuple(shapes), dim
        self.project = nn.ModuleList(levelled_linear(width, dim) for _, width in shapes)

    @property
    def n_tokens(self) -> int:
        """Tokens ``N`` of a picture, of all sources together."""
        return sum(count for count, _ in self.shapes)

    @property
    def macs(self) -> int:
        """Multiply-adds to mix one picture's features."""
        return sum(count * width for count, width in self.shapes) * self.dim

    def tokens(self, features: Sequence[Tensor]) -> Tensor:
        """All tokens, ``(B, N, dim)``, sources in their order."""
        return torch.cat([project(part) for project, part in zip(self.project, features, strict=True)], 1)


class TransformerMixer(Mixer):
    """A learnable fusion token that attends to all others in post-norm transformer layers (AFF, CVPR 2023).

    ``Z' = LN(Z + MHSA(Z))``, then ``LN(Z' + MLP(Z'))`` with a GELU inside the MLP; what the fusion token has become is
    the embedding. There is no dropout: a training step is a function of its number.

    Args:
        heads: must divide ``dim``.
        expansion: the MLP's hidden width over ``dim``.
    """

    def __init__(self, shapes: Sequence[Shape], dim: int, *, layers: int, heads: int, expansion: int) -> None:
        super().__init__(shapes, dim)
        self.hidden = expansion * dim
        self.fusion = nn.Parameter(torch.randn(dim) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, self.hidden, dropout=0.0, activation="gelu", batch_first=True)
            for _ in range(layers)
        )

    @property
    def macs(self) -> int:
        length, dim = self.n_tokens + 1, self.dim
        linear = length * dim * (4 * dim + 2 * self.hidden)  # queries, keys, values, output; both of the MLP
        attention = 2 * length**2 * dim  # queries with keys, weights with values
        return super().macs + len(self.layers) * (linear + attention)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        tokens = self.tokens(features)
        first = self.fusion.expand(tokens.shape[0], 1, -1)  # tracing takes len() for a constant
        mixed = torch.cat([first, tokens], 1)
        for layer in self.layers:
            mixed = layer(mixed)
        return mixed[:, 0]


class MLPMixer(Mixer):
    """All tokens side by side through a hidden layer of half their length, a baseline (AFF, figure 4 a)."""

    def __init__(self, shapes: Sequence[Shape], dim: int) -> None:
        super().__init__(shapes, dim)
        length = self.n_tokens * dim
        self.mix = nn.Sequential(nn.Linear(length, length // 2), nn.GELU(), nn.Linear(length // 2, dim))

    @property
    def macs(self) -> int:
        length = self.n_tokens * self.dim
        return super().macs + length // 2 * (length + self.dim)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        mixed: Tensor = self.mix(self.tokens(features).flatten(1))
        return mixed


class ConcatMixer(Mixer):
    """One linear map of all features side by side, each source's tokens averaged: a baseline.

    It is the sum of the sources' projections.
    """

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        parts = [project(part).mean(1) for project, part in zip(self.project, features, strict=True)]
        return torch.stack(parts).sum(0)


#: By kind; a ``whitening`` is a linear map too, which is not learned (`cmpnas.gallery.fusion.save_whitened`).
MIXERS: dict[str, type[Mixer]] = {
    "transformer": TransformerMixer,
    "mlp": MLPMixer,
    "concat": ConcatMixer,
    "whitening": ConcatMixer,
}
