"""The fine model: every word of a query looks at every region of a candidate (text-to-image attention).

Attention as in SCAN (Lee et al., ECCV 2018, text-image), similarity vectors and their filtered aggregation as in SGRAF
(Diao et al., AAAI 2021, eqs. 2, 3 and 7). Candidates are scored all at once: nothing loops over captions or pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.models.network import Network, initialise
from cmpnas.space import SearchSpace
from cmpnas.space.blocks import block_of
from cmpnas.text.blocks import Words
from cmpnas.text.settings import FineSettings
from cmpnas.text.space import TextSpace


class FineModel(nn.Module):
    """Scores of queries against candidate pictures: the mean of ``settings.members`` models that only differ in how
    they began, as SGRAF's published scores are of two. Their vectors stand side by side in what is kept of a picture.

    Args: as `FineMember`.
    """

    def __init__(self, settings: FineSettings, max_tokens: int, channels: int) -> None:
        super().__init__()
        self.members: Sequence[FineMember] = nn.ModuleList(  # type: ignore[assignment]
            FineMember(settings, max_tokens, channels) for _ in range(settings.members)
        )

    def words(self, ids: Tensor) -> Words:
        """Vectors of words of texts, int64 ``(Q, L)``: float ``(Q, L, D)``, zero where there is none."""
        found = [member.words(ids) for member in self.members]
        return Words(torch.cat([part.vectors for part in found], 2), found[0].there)

    def regions(self, regions: Tensor) -> Tensor:
        """Vectors of regions ``(N, R, C)``: float ``(N, R, D)``; all that is stored of a picture."""
        return torch.cat([member.regions(regions) for member in self.members], 2)

    def forward(self, words: Words, regions: Tensor) -> Tensor:
        """Scores of each query's own candidates: words ``(Q, L, D)``, regions ``(Q, K, R, D)`` to ``(Q, K)``.

        A score depends on its query and its candidate alone; padding has no part in it.
        """
        count = len(self.members)
        parts = zip(self.members, words.vectors.chunk(count, 2), regions.chunk(count, 3), strict=True)
        return torch.stack([member(Words(own, words.there), seen) for member, own, seen in parts]).mean(0)

    def described(self, ids: Tensor) -> Tensor:
        """What the summary of each text is in all members, int64 ``(Q, L)`` to unit float ``(Q, D)``; its cosine with a
        picture's (`cmpnas.text.coarse.SummaryPool`) is the mean of theirs."""
        return beside([summary(member.words(ids)) for member in self.members])

    @property
    def dim(self) -> int:
        """Numbers of a word's and a region's vector, of all members together."""
        return sum(member.dim for member in self.members)

    @property
    def text_macs(self) -> int:
        """Multiply-adds of encoding one query."""
        return sum(member.text_macs for member in self.members)

    def macs(self, length: int, regions: int) -> int:
        """Multiply-adds of one score at ``length`` words and ``regions`` regions, the encoders aside."""
        return sum(member.macs(length, regions) for member in self.members)


class FineMember(nn.Module):
    """One model that scores.

    Args:
        settings: its sizes.
        max_tokens: length of texts.
        channels: numbers a region has.
    """

    def __init__(self, settings: FineSettings, max_tokens: int, channels: int) -> None:
        super().__init__()
        space = SearchSpace(TextSpace(settings.text, max_tokens))
        layers = space.layers(space.extremes()[0])
        width, dim, similarity = layers[-1].cin, settings.dim, settings.similarity
        self.text = Network(layers[:-1])  # all but pooling
        initialise(dict(self.text.named_parameters()))
        #: Multiply-adds of encoding one query.
        self.text_macs = sum(block_of(layer).cost(layer).macs for layer in layers[:-1]) + max_tokens * width * dim
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.see = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, dim))
        self.local, self.whole = nn.Linear(dim, similarity), nn.Linear(dim, similarity)
        self.filter, self.judge = nn.Linear(similarity, 1), nn.Linear(similarity, 1)
        self.sharpness = nn.Parameter(torch.tensor(9.0))  # of attention; SCAN's
        self.scale = nn.Parameter(torch.tensor(14.0))  # of cosines as logits

    def words(self, ids: Tensor) -> Words:
        """Unit vectors of words of texts, int64 ``(Q, L)``: float ``(Q, L, D)``, zero where there is none."""
        found = self.text(ids)
        vectors = F.normalize(self.read(found.vectors), dim=2)
        return Words(vectors * found.there[:, :, None], found.there)

    def regions(self, regions: Tensor) -> Tensor:
        """Unit vectors of regions ``(N, R, C)``: float ``(N, R, D)``; all that is stored of a picture."""
        return F.normalize(self.see(regions), dim=2)

    def forward(self, words: Words, regions: Tensor) -> Tensor:
        """Scores of each query's own candidates: words ``(Q, L, D)``, regions ``(Q, K, R, D)`` to ``(Q, K)``.

        A score depends on its query and its candidate alone; padding has no part in it.
        """
        vectors, there = words
        cosine = torch.einsum("qld,qkrd->qklr", vectors, regions)
        attended = torch.einsum("qklr,qkrd->qkld", torch.softmax(self.sharpness * cosine, 3), regions)
        attended = F.normalize(attended, dim=3)
        agreement = (attended * vectors[:, None]).sum(3)  # (Q, K, L), 0 where no word is
        local = F.normalize(self.local((attended - vectors[:, None]).square()), dim=3)
        text, picture = summary(words), F.normalize(regions.mean(2), dim=2)
        whole = F.normalize(self.whole((picture - text[:, None]).square()), dim=2)
        every = torch.cat([whole[:, :, None], local], 2)
        weights = torch.sigmoid(self.filter(every)[..., 0])
        weights = weights * torch.cat([there.new_ones(len(there), 1), there], 1)[:, None]
        together = torch.einsum("qkl,qkls->qks", weights / weights.sum(2, keepdim=True), every)
        mean = agreement.sum(2) / there.sum(1)[:, None]
        alike = torch.einsum("qkd,qd->qk", picture, text)  # as summaries alone would say
        return self.scale * (mean + alike + self.judge(together)[..., 0])

    @property
    def dim(self) -> int:
        """Numbers of a word's and a region's vector."""
        return self.local.in_features

    def macs(self, length: int, regions: int) -> int:
        """Multiply-adds of one score at ``length`` words and ``regions`` regions, the encoders aside."""
        dim, similarity = self.dim, self.local.out_features
        attention = 2 * length * regions * dim
        return attention + (length + 1) * (dim * similarity + 2 * similarity) + similarity + dim


def summary(words: Words) -> Tensor:
    """Unit mean of a query's words: ``(Q, D)``."""
    return F.normalize(words.vectors.sum(1), dim=1)


def beside(summaries: Sequence[Tensor]) -> Tensor:
    """Unit vectors of several members ``(N, D)`` as one unit vector, in which all count alike."""
    return torch.cat(list(summaries), 1) / len(summaries) ** 0.5
