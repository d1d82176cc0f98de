"""A coarse text encoder that learns what the fine model's summaries say of texts, against pictures that stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmpnas.models.network import Network, build_network
from cmpnas.space import Arch, SearchSpace
from cmpnas.text.captions import Captioned
from cmpnas.text.coarse import PicturePool, SummaryPool
from cmpnas.text.fine import FineModel
from cmpnas.text.settings import CoarseSettings, FineSettings
from cmpnas.text.space import TextSpace, TextSpec
from cmpnas.text.tokeniser import UNKNOWN, Tokeniser
from cmpnas.text.train import CoarseTraining, Texts
from cmpnas.train.loop import Plan

pytest.importorskip("tokenizers")
WORDS = ["red", "blue", "green", "small", "large", "mug", "plate", "bowl", "striped", "dotted", "round", "square"]
TOKENS, DIM = 8, 6
PLAN = {"epochs": 60, "batch_size": 16, "lr": 0.02}


@dataclass
class Taught:
    """Captions of 64 pictures, an untrained fine model of two members that reads them, and its pool."""

    pairs: Captioned
    texts: Texts
    fine: FineModel
    pool: SummaryPool
    regions: np.ndarray
    settings: CoarseSettings

    def training(self, drop: float = 0.0) -> CoarseTraining:
        return CoarseTraining(
            self.pairs, self.texts, self.regions, self.settings.loss, self.fine, fine_vocabulary=64, candidates=3,
            drop=drop, seed=0,
        )  # fmt: skip

    def encoder(self, vocabulary: int) -> tuple[Network, Arch]:
        spec = TextSpec(vocabulary=vocabulary, width=16, mixer="bag", pool="mean")
        space = SearchSpace(TextSpace(spec, TOKENS), embedding_dim=DIM)
        arch = space.extremes()[0]
        torch.manual_seed(1)
        return build_network(space, arch), arch


@pytest.fixture
def taught() -> Taught:
    rng = np.random.default_rng(0)
    captions = [" ".join(rng.choice(WORDS, 4, replace=False)) for _ in range(64)]
    labels = np.arange(64)
    torch.manual_seed(0)
    text = {"vocabulary": 64, "width": 12, "mixer": "bag"}
    fine = FineModel(FineSettings(text=text, dim=10, similarity=4, members=2, train=PLAN), TOKENS, 9).eval()
    regions = rng.normal(size=(64, 5, 9)).astype(np.float16)
    settings = CoarseSettings(
        dim=DIM, pool="summary", loss={"infonce": 0, "triplet": 0, "distil": 0, "regression": 10}, supernet=PLAN,
        train=PLAN,
    )  # fmt: skip
    pool = SummaryPool(settings, fine)
    pool.orient(pool.summaries(torch.from_numpy(regions).float()))
    texts = Texts(Tokeniser.train(captions, 64, TOKENS), captions)
    return Taught(Captioned(None, None, labels, captions, labels, captions), texts, fine, pool, regions, settings)


def test_it_comes_to_say_of_texts_what_the_fine_model_says(taught, tmp_path):
    network, arch = taught.encoder(64)
    pool, ids = taught.pool, taught.texts.ids(64)
    with torch.no_grad():
        aim = pool.reduced(torch.cat([_mean(member.words(ids)) for member in taught.fine.members], 1))

        def far() -> float:
            return float((1 - (F.normalize(network.eval()(ids)) * aim).sum(1)).mean())

        before = far()
    stood = {name: value.clone() for name, value in pool.state_dict().items()}
    taught.training().network(network.train(), arch, pool, Plan(**PLAN), tmp_path / "checkpoint.pt")
    with torch.no_grad():
        assert before > 0.5
        assert far() < 0.1
    assert all(torch.equal(value, stood[name]) for name, value in pool.state_dict().items())


@pytest.mark.parametrize("vocabulary", [64, 48])
def test_what_is_left_out_of_a_text_is_left_out_for_both_where_both_cut_it_alike(
    taught, vocabulary, tmp_path, monkeypatch
):
    network, arch = taught.encoder(vocabulary)
    read, aimed, told = [], [], FineModel.described
    network.register_forward_pre_hook(lambda _, given: read.append(given[0]))

    def described(fine: FineModel, ids: torch.Tensor) -> torch.Tensor:
        aimed.append(ids)
        return told(fine, ids)

    monkeypatch.setattr(FineModel, "described", described)
    plan = Plan(**PLAN | {"epochs": 1})
    taught.training(drop=0.5).network(network.train(), arch, taught.pool, plan, tmp_path / "checkpoint.pt")
    assert len(read) == len(aimed) == 4
    assert any((ids == UNKNOWN).any() for ids in read)
    if vocabulary == 64:
        assert all(torch.equal(one, other) for one, other in zip(read, aimed, strict=True))
    else:
        assert not any((ids == UNKNOWN).any() for ids in aimed)


@pytest.mark.parametrize(("logarithm", "scale"), [(1.0, math.e), (4.0, math.exp(4)), (5.0, 100.0)])
def test_logits_are_cosines_a_hundred_times_at_most(logarithm, scale):
    pool = PicturePool()
    assert pool.scale.item() == pytest.approx(14)
    with torch.no_grad():
        pool.log_scale.fill_(logarithm)
    assert pool.scale.item() == pytest.approx(scale)


def _mean(words) -> torch.Tensor:
    """Unit mean of each text's words, text by text."""
    return torch.stack([F.normalize(v[t].mean(0), dim=0) for v, t in zip(words.vectors, words.there, strict=True)])
