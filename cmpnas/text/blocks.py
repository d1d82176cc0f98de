"""The modules of text encoders: plain and static, what a carved encoder is made of.

What passes from layer to layer is `Words`; the first layer takes numbers of tokens, the last gives one vector a text.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.space.layer import Layer
from cmpnas.text.tokeniser import PAD


class Words(NamedTuple):
    """Vectors of words and which of them are there.

    Attributes:
        vectors: float ``(N, L, W)``.
        there: bool ``(N, L)``, false for padding.
    """

    vectors: Tensor
    there: Tensor


def weighted_mean(vectors: Tensor, logits: Tensor, there: Tensor) -> Tensor:
    """Mean of ``vectors`` ``(N, L, W)`` by the softmax of ``logits`` ``(N, L)`` over what is ``there``: ``(N, W)``."""
    weights = torch.softmax(logits.masked_fill(~there, -torch.inf), 1)
    return torch.bmm(weights[:, None], vectors)[:, 0]


class Tokens(nn.Module):
    """Numbers of tokens, int64 ``(N, L)``, to their vectors."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.table = nn.Embedding(layer.cin, layer.cout)

    def forward(self, ids: Tensor) -> Words:
        return Words(self.table(ids), ids != PAD)


class Positions(nn.Module):
    """A learned vector for each place, added to the words."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(layer.integer("tokens"), layer.cout))

    def forward(self, words: Words) -> Words:
        return Words(words.vectors + self.table[: words.vectors.shape[1]], words.there)


class Transformer(nn.Module):
    """Attention among words, then a feed-forward net; each reads a LayerNorm and adds to what came (pre-norm)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        width, inner = layer.cout, layer.cout * layer.integer("ratio")
        self.heads = layer.integer("heads")
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, words: Words) -> Words:
        x = self.before(words.vectors)
        query, key, value = (self._split(part(x)) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=words.there[:, None, None])
        x = words.vectors + self.out(mixed.transpose(1, 2).flatten(2))
        return Words(x + self.narrow(F.gelu(self.widen(self.between(x)))), words.there)

    def _split(self, x: Tensor) -> Tensor:
        """``(N, L, W)`` to ``(N, heads, L, W / heads)``."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Gru(nn.Module):
    """A gated recurrent layer from the first word to the last, added to what came; padding comes after all words and
    changes none of them. Gates are matrices of their own, so that narrower ones are their beginnings."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        width = layer.cout
        self.before = nn.LayerNorm(width)
        self.reset, self.update, self.new = (nn.Linear(width, width) for _ in range(3))
        self.reset_state, self.update_state, self.new_state = (nn.Linear(width, width) for _ in range(3))

    def forward(self, words: Words) -> Words:
        came, remembered = (self.reset, self.update, self.new), (self.reset_state, self.update_state, self.new_state)
        weights = [torch.cat([gate.weight for gate in gates]) for gates in (came, remembered)]
        weights += [torch.cat([gate.bias for gate in gates]) for gates in (came, remembered)]
        x = self.before(words.vectors)
        start = x.new_zeros(1, x.shape[0], x.shape[2])
        mixed = torch.gru(x, start, weights, True, 1, 0.0, self.training, False, True)[0]
        return Words(words.vectors + mixed, words.there)


class Pool(nn.Module):
    """One vector ``(N, D)`` of a text: the mean of its words' vectors, by learned weights or equal ones, projected."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(layer.cin)
        self.weigh = nn.Linear(layer.cin, 1) if layer.option("pool") == "weighted" else None
        self.project = nn.Linear(layer.cin, layer.cout)

    def forward(self, words: Words) -> Tensor:
        x = self.norm(words.vectors)
        if self.weigh is None:
            there = words.there[:, :, None].to(x.dtype)
            return self.project((x * there).sum(1) / there.sum(1))
        return self.project(weighted_mean(x, self.weigh(x)[:, :, 0], words.there))
