"""A coarse text encoder that learns what the fine model's summaries say of texts, against pictures that stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmpnas.models.network import build_network
from cmpnas.space import SearchSpace
from cmpnas.text.captions import Captioned
from cmpnas.text.coarse import SummaryPool
from cmpnas.text.fine import FineModel
from cmpnas.text.settings import CoarseSettings, FineSettings
from cmpnas.text.space import TextSpace, TextSpec
from cmpnas.text.tokeniser import Tokeniser
from cmpnas.text.train import CoarseTraining, Texts
from cmpnas.train.loop import Plan

pytest.importorskip("tokenizers")
WORDS = ["red", "blue", "green", "small", "large", "mug", "plate", "bowl", "striped", "dotted", "round", "square"]
TOKENS, DIM = 8, 6
PLAN = {"epochs": 60, "batch_size": 16, "lr": 0.02}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The training of 64 pictures with a caption each, an untrained fine model of two members, and its pool."""
    rng = np.random.default_rng(0)
    captions = [" ".join(rng.choice(WORDS, 4, replace=False)) for _ in range(64)]
    labels = np.arange(64)
    pairs = Captioned(None, None, labels, captions, labels, captions)
    texts = Texts(Tokeniser.train(captions, 64, TOKENS), captions)
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
    training = CoarseTraining(
        pairs, texts, regions, settings.loss, fine, fine_vocabulary=64, candidates=3, drop=0.0, seed=0
    )
    return training, texts, fine, pool, tmp_path_factory.mktemp("taught")


def test_it_comes_to_say_of_texts_what_the_fine_model_says(taught):
    training, texts, fine, pool, folder = taught
    space = SearchSpace(
        TextSpace(TextSpec(vocabulary=64, width=16, mixer="bag", pool="mean"), TOKENS), embedding_dim=DIM
    )
    arch = space.extremes()[0]
    torch.manual_seed(1)
    network, ids = build_network(space, arch), texts.ids(64)
    with torch.no_grad():
        aim = pool.reduced(torch.cat([_mean(member.words(ids)) for member in fine.members], 1))

        def far() -> float:
            return float((1 - (F.normalize(network.eval()(ids)) * aim).sum(1)).mean())

        before = far()
    stood = {name: value.clone() for name, value in pool.state_dict().items()}
    training.network(network.train(), arch, pool, Plan(**PLAN), folder / "checkpoint.pt")
    with torch.no_grad():
        assert before > 0.5
        assert far() < 0.1
    assert all(torch.equal(value, stood[name]) for name, value in pool.state_dict().items())


def _mean(words) -> torch.Tensor:
    """Unit mean of each text's words, text by text."""
    return torch.stack([F.normalize(v[t].mean(0), dim=0) for v, t in zip(words.vectors, words.there, strict=True)])
