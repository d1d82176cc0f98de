"""Classifiers on the sphere with an angular margin."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Margin = Literal["arcface", "cosface"]


def margin_logits(cosine: Tensor, labels: Tensor, *, kind: Margin, margin: float, scale: float) -> Tensor:
    """Logits with the target's angle (ArcFace, eq. 3) or cosine (CosFace, eq. 4) made harder.

    Args:
        cosine: ``(N, K)`` cosines between embeddings and class weights.
        labels: int64 ``(N,)``.

    Returns:
        float ``(N, K)``, times ``scale``.
    """
    target = cosine.gather(1, labels[:, None]).float().clamp(-1 + 1e-6, 1 - 1e-6)
    if kind == "cosface":
        hard = target - margin
    else:
        # Past pi - margin the angle would wrap and reward error; continue with a straight line.
        wrapped = torch.cos(torch.acos(target) + margin)
        hard = torch.where(target > -math.cos(margin), wrapped, target - margin * math.sin(margin))
    return scale * cosine.scatter(1, labels[:, None], hard.to(cosine.dtype))


class MarginClassifier(nn.Module):
    """Softmax over cosines to one weight vector a class.

    Args:
        weights: ``(K, D)`` initial class weights; any norm.
    """

    def __init__(self, weights: Tensor, *, kind: Margin = "arcface", margin: float = 0.3, scale: float = 16.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights.clone())
        self.kind: Margin = kind
        self.margin = margin
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of ``(N, D)`` embeddings against int64 ``(N,)`` labels."""
        cosine = F.normalize(embeddings.float()) @ F.normalize(self.weight).T
        logits = margin_logits(cosine, labels, kind=self.kind, margin=self.margin, scale=self.scale)
        return F.cross_entropy(logits, labels)

    @torch.no_grad()
    def follow(self, weights: Tensor, momentum: float) -> None:
        """Become ``momentum`` times the own plus ``1 - momentum`` times these class weights."""
        self.weight.lerp_(weights, 1 - momentum)
