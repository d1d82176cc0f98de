"""Training the fine model, the supernet of coarse text encoders, and one of them to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.data.items import Steps
from cmpnas.models.network import Network
from cmpnas.models.supernet import Supernet
from cmpnas.space import Arch
from cmpnas.text.captions import Captioned
from cmpnas.text.coarse import PicturePool, SummaryPool
from cmpnas.text.fine import FineMember, FineModel, summary
from cmpnas.text.losses import follow, hardest, infonce, triplet
from cmpnas.text.regions import MapEncoder, read_regions
from cmpnas.text.settings import CoarseLoss, EncoderRegions, FineSettings
from cmpnas.text.tokeniser import PAD, UNKNOWN, Tokeniser, trimmed
from cmpnas.train.device import autocast, device
from cmpnas.train.loop import Plan, descend, fit


class Texts:
    """Captions as numbers, once for every size of vocabulary that asks."""

    def __init__(self, tokeniser: Tokeniser, captions: Sequence[str]) -> None:
        self.tokeniser, self.captions = tokeniser, captions
        self._by_vocabulary: dict[int, Tensor] = {}

    def ids(self, vocabulary: int) -> Tensor:
        """int64 ``(C, L)`` by the first ``vocabulary`` tokens."""
        if vocabulary not in self._by_vocabulary:
            limited = self.tokeniser.limited(vocabulary)
            self._by_vocabulary[vocabulary] = torch.from_numpy(limited.encode(self.captions))
        return self._by_vocabulary[vocabulary]


def drop_words(ids: Tensor, share: float, seed: int, step: int) -> Tensor:
    """``ids`` with each token but the first unknown with probability ``share``; a function of (seed, step)."""
    if not share:
        return ids
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    dropped = torch.rand(ids.shape, generator=generator) < share
    dropped[:, 0] = False
    return torch.where(dropped & (ids != PAD), UNKNOWN, ids)


def train_fine(
    fine: FineModel,
    encoder: MapEncoder | None,
    pairs: Captioned,
    texts: Texts,
    settings: FineSettings,
    how: EncoderRegions | None,
    regions: np.ndarray | None,
    *,
    drop: float,
    seed: int,
    saved: Path,
    workers: int = 0,
) -> None:
    """Train ``fine`` in place, together with the image ``encoder`` where there is one, else on finished ``regions``.

    A step sees pictures with a caption each, and so does every member of the model. Summaries of words and regions
    learn by InfoNCE; by them the pictures most like the right one are found, and among those the scorer must choose it.
    """
    ids, plan = texts.ids(max(settings.text.vocabulary)), settings.train
    labels, caption_labels = torch.from_numpy(pairs.labels), torch.from_numpy(pairs.caption_labels)

    def loss_of(seen: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
        rows = torch.from_numpy(pairs.pick(indices, view))
        asked = drop_words(trimmed(ids[rows]), drop, seed, step).to(seen.device)
        same = (caption_labels[rows][:, None] == labels[indices][None]).to(seen.device)
        return sum((member_loss(member, asked, seen, same) for member in fine.members), seen.new_zeros(()))

    def member_loss(member: FineMember, asked: Tensor, seen: Tensor, same: Tensor) -> Tensor:
        with autocast(fine, plan.precision):
            words, found = member.words(asked), member.regions(seen)
            cosine = summary(words) @ F.normalize(found.mean(1)).T
            candidates = hardest(cosine.detach(), same, settings.negatives)
            scores = member(words, found[candidates]).float()
        right = same.gather(1, candidates)
        chosen = torch.logsumexp(scores, 1) - torch.logsumexp(scores.masked_fill(~right, -torch.inf), 1)
        return infonce(member.scale * cosine.float(), same) + chosen.mean()

    if encoder is not None and how is not None and pairs.items is not None:
        network: MapEncoder = encoder

        def loss_at(images: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
            with autocast(network, plan.precision):
                seen = network(images).float()
            return loss_of(seen, indices, view, step)

        both = nn.ModuleDict({"fine": fine, "encoder": encoder})
        fit("fine", both, loss_at, pairs.items, plan, augmentation=how.augment, seed=seed, saved=saved, workers=workers)
        return
    _on_regions("fine", nn.ModuleDict({"fine": fine}), loss_of, regions, plan, seed, saved)  # type: ignore[arg-type]


class CoarseTraining:
    """What the supernet and a finished encoder learn by: pictures' regions, captions, and a teacher if there is one.

    Args:
        regions: ``(N, R, C)`` of the training pictures.
        fine: whose order of the ``candidates`` hardest pictures is followed, and whose summaries of texts are what is
            aimed at, where the loss says so.
    """

    def __init__(
        self,
        pairs: Captioned,
        texts: Texts,
        regions: np.ndarray,
        loss: CoarseLoss,
        fine: FineModel | None,
        *,
        fine_vocabulary: int,
        candidates: int,
        drop: float,
        seed: int,
    ) -> None:
        self.pairs, self.texts, self.regions, self.loss, self.fine = pairs, texts, regions, loss, fine
        self._fine_vocabulary, self._candidates, self._drop, self._seed = fine_vocabulary, candidates, drop, seed

    @cached_property
    def _labels(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.pairs.labels), torch.from_numpy(self.pairs.caption_labels)

    def supernet(
        self, supernet: Supernet, pool: PicturePool, paths: Callable[[int], list[Arch]], plan: Plan, saved: Path
    ) -> None:
        """Train the architectures that ``paths`` names at each step, and the one ``pool`` that all of them share."""
        example = Network(supernet.space.layers(supernet.space.extremes()[1]))

        def encoders(step: int) -> list[tuple[int, Callable[[Tensor], Tensor]]]:
            return [(vocabulary_of(arch), partial(supernet, arch=arch)) for arch in paths(step)]

        modules = nn.ModuleDict({"supernet": supernet, "pool": pool})
        self._train("supernet", modules, example, pool, encoders, plan, saved)

    def network(self, network: Network, arch: Arch, pool: PicturePool, plan: Plan, saved: Path) -> None:
        """Train one encoder and its ``pool`` in place."""
        modules = nn.ModuleDict({"network": network, "pool": pool})
        self._train(arch.id, modules, network, pool, lambda step: [(vocabulary_of(arch), network)], plan, saved)

    def _train(  # type: ignore[no-untyped-def]
        self, what: str, modules: nn.Module, example: nn.Module, pool: PicturePool, encoders, plan: Plan, saved: Path
    ) -> None:
        labels, caption_labels = self._labels

        def loss_of(seen: Tensor, indices: Tensor, view: int, step: int) -> Tensor:
            rows = torch.from_numpy(self.pairs.pick(indices, view))
            same = (caption_labels[rows][:, None] == labels[indices][None]).to(seen.device)
            pictures, teacher, total = pool(seen) if self.loss.compares else None, None, seen.new_zeros(())
            turns = encoders(step)
            for vocabulary, encode in turns:
                ids = drop_words(trimmed(self.texts.ids(vocabulary)[rows]), self._drop, self._seed, step)
                with autocast(example, plan.precision):
                    queries = encode(ids.to(seen.device)).float()
                queries = F.normalize(queries)
                if self.loss.regression and isinstance(pool, SummaryPool):
                    # Where both cut texts alike, what the one does not see the other does not see either.
                    read = ids if vocabulary == self._fine_vocabulary else self._read(rows)
                    aim = self._aim(pool, read.to(seen.device))
                    total = total + self.loss.regression * (1 - (queries * aim).sum(1)).mean()
                if pictures is None:
                    continue
                cosine = queries @ pictures.T
                total = total + self.loss.infonce * infonce(pool.scale * cosine, same)
                total = total + self.loss.triplet * triplet(cosine, same, self.loss.margin)
                if self.fine is not None and self.loss.distil:
                    if teacher is None:
                        teacher = self._teach(rows, seen, cosine.detach(), same)
                    candidates, scores = teacher
                    total = total + self.loss.distil * follow(pool.scale * cosine.gather(1, candidates), scores)
            return total / len(turns)

        _on_regions(what, modules, loss_of, self.regions, plan, self._seed, saved)

    @torch.no_grad()
    def _teach(self, rows: Tensor, seen: Tensor, cosine: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
        """Each caption's hardest candidates in the batch, and what the fine model thinks of them: ``(B, K)`` each."""
        fine: FineModel = self.fine  # type: ignore[assignment]
        candidates = hardest(cosine, same, self._candidates)
        return candidates, fine(fine.words(self._read(rows).to(seen.device)), fine.regions(seen)[candidates])

    @torch.no_grad()
    def _aim(self, pool: SummaryPool, ids: Tensor) -> Tensor:
        """What the fine model's summaries say of texts, in the language of the pictures' vectors: ``(B, D)``."""
        return pool.reduced(self.fine.described(ids))  # type: ignore[union-attr]

    def _read(self, rows: Tensor) -> Tensor:
        """Captions as the fine model reads them."""
        return trimmed(self.texts.ids(self._fine_vocabulary)[rows])


def vocabulary_of(arch: Arch) -> int:
    """How many tokens ``arch`` knows."""
    return int(dict(arch.choices)["vocabulary"])


def _on_regions(  # type: ignore[no-untyped-def]
    what: str, modules: nn.Module, loss_of, regions: np.ndarray, plan: Plan, seed: int, saved: Path
) -> None:
    """Train on regions that are ready; nothing of a picture is computed again."""
    n, where = len(regions), device()

    def losses(indices: list[int], step: int) -> Iterator[Tensor]:
        seen = read_regions(regions, np.asarray(indices)).to(where)
        yield loss_of(seen, torch.as_tensor(indices), step // (n // plan.batch_size), step)

    def feed(order: Steps) -> Steps:
        return order

    descend(what, modules, losses, feed, plan, n=n, seed=seed, saved=saved)
