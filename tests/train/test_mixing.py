"""A mixer that learns beside the query: its loss, the moving average in closed form, the same after an interruption."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmpnas.compat import Anchor, Batch, CompatLoss
from cmpnas.cost import Budget
from cmpnas.data.augment import Augment
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.models.mixer import MIXERS
from cmpnas.space import load_space
from cmpnas.train import loop
from cmpnas.train.loop import Plan
from cmpnas.train.mixing import Frozen, Mixing, train_mixer
from cmpnas.train.supernet import SupernetPlan, train_supernet

N, K, D = 48, 6, 8
SHAPES = ((1, 5), (2, 4))
LOSSES = {"influence": 1.0, "bct": 0.5, "regression": 1.0}


def items(n=N):
    pixels = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Items(ArrayImages(pixels), np.arange(n) % K, None, np.arange(n))


def features():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(N, count, width, generator=generator) for count, width in SHAPES]


def start(labels=None):
    generator = torch.Generator().manual_seed(2)
    weights = F.normalize(torch.randn(K, D, generator=generator))
    labels = torch.arange(N) % K if labels is None else labels
    return Anchor(torch.empty(0, D), labels, weights, "arcface", 8.0, 0.2)


def begun(momentum=0.9, labels=None, read=None):
    torch.manual_seed(3)
    saved, anchor = features(), start(labels)
    mixer = MIXERS["transformer"](SHAPES, D, layers=1, heads=2, expansion=2)
    return anchor, Mixing(mixer, read or (lambda rows: [part[rows] for part in saved]), anchor, momentum)


def test_the_mixers_loss_is_arcface_on_the_labelled():
    labels = torch.where(torch.arange(N) % 5 == 0, -1, torch.arange(N) % K)
    _, mixing = begun(labels=labels)
    indices = torch.tensor([3, 5, 10, 11, 47])
    gallery, told, loss = mixing(indices, 0, torch.device("cpu"))
    with torch.no_grad():
        mixed = F.normalize(mixing.mixer([part[indices] for part in features()]))
    assert torch.allclose(gallery, mixed)
    assert not gallery.requires_grad
    assert told.tolist() == [3, -1, -1, 5, 5]
    weights, terms = F.normalize(mixing.head.weight.detach()), []
    for row, label in zip(mixed[[0, 3, 4]], (3, 5, 5), strict=True):
        cosines = [float(row @ weight) for weight in weights]
        cosines[label] = math.cos(math.acos(cosines[label]) + 0.2)
        total = sum(math.exp(8 * cosine) for cosine in cosines)
        terms.append(-math.log(math.exp(8 * cosines[label]) / total))
    assert loss.item() == pytest.approx(sum(terms) / 3, abs=1e-5)
    loss.backward()
    nobody = mixing(torch.tensor([0, 5]), 0, torch.device("cpu"))[2]
    assert nobody.item() == 0
    nobody.backward()


def test_nothing_of_the_query_reaches_the_mixer():
    anchor, mixing = begun()
    query = torch.randn(4, D, requires_grad=True)
    indices = torch.arange(4)
    gallery, labels, own = mixing(indices, 0, torch.device("cpu"))
    alone = torch.autograd.grad(own, list(mixing.parameters()), retain_graph=True)
    loss = CompatLoss(LOSSES, anchor)
    (own + loss(Batch(query, gallery, labels))).backward()
    for parameter, expected in zip(mixing.parameters(), alone, strict=True):
        assert torch.equal(parameter.grad, expected)
    assert query.grad.abs().sum() > 0
    assert loss.parts["influence"].frozen.weight.grad is None


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
def test_the_querys_classifier_is_the_moving_average_of_the_mixers(momentum, tmp_path, monkeypatch):
    anchor, mixing = begun(momentum)
    kept, lead = {}, Mixing.lead

    def watched(self, loss):
        lead(self, loss)
        kept.setdefault("mixer", []).append(self.head.weight.detach().clone())
        kept["query"] = [loss.parts[name].frozen.weight.clone() for name in ("influence", "bct")]

    monkeypatch.setattr(Mixing, "lead", watched)
    train_supernet(
        load_space("tiny", size=16, embedding_dim=D), anchor, LOSSES, items(),
        SupernetPlan(epochs=2, batch_size=16, lr=0.01, accumulate=2), budget=Budget(), augmentation=Augment(),
        seed=0, saved=tmp_path / "c", mixing=mixing,
    )  # fmt: skip
    steps = len(kept["mixer"])
    assert steps == 6
    expected = momentum**steps * anchor.classifier + (1 - momentum) * sum(
        momentum ** (steps - 1 - t) * weights for t, weights in enumerate(kept["mixer"])
    )
    for found in kept["query"]:
        assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(kept["mixer"][-1], anchor.classifier, atol=1e-2)


def learn(folder, read=None):
    anchor, mixing = begun(read=read)
    supernet = train_supernet(
        load_space("tiny", size=16, embedding_dim=D), anchor, LOSSES, items(),
        SupernetPlan(epochs=3, batch_size=16, lr=0.01, ema=0.5), budget=Budget(), augmentation=Augment(flip=0.5),
        seed=3, saved=folder / "supernet.checkpoint", mixing=mixing,
    )  # fmt: skip
    return {**supernet.state_dict(), **{f"mixing.{name}": value for name, value in mixing.state_dict().items()}}


def test_an_interrupted_joint_training_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SAVE_EVERY", 0.0)
    whole, calls, saved = learn(tmp_path / "whole"), [], features()

    def stops(rows):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return [part[rows] for part in saved]

    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "cut", stops)
    resumed = learn(tmp_path / "cut", stops)
    assert len(calls) == 5 + 5
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_two_sources_tell_what_neither_does_alone(tmp_path):
    """One knows the row of a 3 x 2 table that a picture is in, the other the column."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(240) % K
    known = [F.one_hot(labels // 2, 3), F.one_hot(labels % 2, 2)]
    known = [(part + 0.3 * torch.randn(part.shape, generator=generator))[:, None] for part in known]

    def hits(chosen):
        torch.manual_seed(0)
        parts = [known[n] for n in chosen]
        anchor = Anchor(torch.empty(0, D), labels[:120], F.normalize(torch.randn(K, D)), "arcface", 8.0, 0.2)
        mixer = MIXERS["transformer"]([(1, part.shape[2]) for part in parts], D, layers=1, heads=2, expansion=2)
        mixing = Mixing(mixer, lambda rows: [part[rows] for part in parts], anchor)
        plan = Plan(epochs=30, batch_size=40, lr=0.02)
        train_mixer("mixer", mixing, 120, plan, seed=0, saved=tmp_path / f"{chosen}.pt")
        with torch.no_grad():
            cosines = F.normalize(mixer([part[120:] for part in parts])) @ F.normalize(mixing.head.weight).T
        return (cosines.argmax(1) == labels[120:]).float().mean()

    assert hits([0, 1]) > 0.8
    assert max(hits([0]), hits([1])) < 0.65


def test_a_copy_of_who_teaches_is_no_copy_of_what_it_knows():
    """A running average of weights copies all modules; targets of views need not even fit into memory."""
    anchor = Anchor(torch.randn(4, 8), torch.arange(4), torch.randn(4, 8), "arcface", 8.0, 0.1)
    looked = []
    object.__setattr__(anchor, "look", lambda indices, view: looked.append(id(anchor)) or (indices, indices))
    again = copy.deepcopy(Frozen(anchor))
    again(torch.arange(2), 0, torch.device("cpu"))
    assert looked == [id(anchor)]
