"""Each loss against a naive loop, and what each must do for compatibility."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cmpnas.compat import LOSSES, Anchor, Batch, CompatLoss, csd


@pytest.fixture
def anchor() -> Anchor:
    torch.manual_seed(0)
    unit = torch.nn.functional.normalize
    return Anchor(unit(torch.randn(12, 6)), torch.arange(12) % 4, unit(torch.randn(4, 6)), "arcface", 8.0, 0.2)


@pytest.fixture
def batch(anchor) -> Batch:
    return Batch(torch.randn(12, 6, requires_grad=True), anchor.embeddings, anchor.labels)


def test_regression_equals_a_naive_loop(anchor, batch):
    total = 0.0
    for q, g in zip(batch.query.tolist(), batch.gallery.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(q, g, strict=True))
        total += 1 - dot / math.sqrt(sum(a * a for a in q))
    assert LOSSES["regression"](anchor)(batch).item() == pytest.approx(total / 12, abs=1e-6)


def test_bct_equals_a_naive_loop(anchor, batch):
    total = 0.0
    for q, label in zip(batch.query.tolist(), batch.labels.tolist(), strict=True):
        norm = math.sqrt(sum(a * a for a in q))
        cosines = [sum(a * b for a, b in zip(q, w, strict=True)) / norm for w in anchor.classifier.tolist()]
        logits = [8 * c for c in cosines]
        logits[label] = 8 * math.cos(math.acos(cosines[label]) + 0.2)
        total += math.log(sum(math.exp(x) for x in logits)) - logits[label]
    # At the start the query's own classifier is the gallery's, so both terms are equal.
    assert LOSSES["bct"](anchor)(batch).item() == pytest.approx(total / 12, abs=1e-5)


def test_bct_uses_the_margin_of_the_gallery_model(anchor, batch):
    cosface = LOSSES["bct"](replace(anchor, kind="cosface"))(batch)
    unit = torch.nn.functional.normalize(batch.query)
    logits = 8 * (unit @ anchor.classifier.T - 0.2 * torch.nn.functional.one_hot(batch.labels, 4))
    assert cosface.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, batch.labels).item(), abs=1e-5)


def test_bct_leaves_unlabelled_items_out(anchor, batch):
    some = torch.where(torch.arange(12) < 5, batch.labels, -1)
    loss = LOSSES["bct"](anchor)
    part = Batch(batch.query[:5], batch.gallery[:5], batch.labels[:5])
    assert loss(replace(batch, labels=some)).item() == pytest.approx(loss(part).item(), abs=1e-6)
    assert loss(replace(batch, labels=torch.full((12,), -1))).item() == 0


def test_bct_never_moves_the_gallery_classifier(anchor, batch):
    loss = LOSSES["bct"](anchor)
    loss(batch).backward()
    assert loss.frozen.weight.grad is None
    assert loss.own.weight.grad.abs().sum() > 0


def test_csd_equals_a_naive_loop(anchor, batch):
    total = 0.0
    for q, g in zip(batch.query.detach(), batch.gallery, strict=True):
        wanted = [math.exp(float(g @ other) / 0.05) for other in anchor.embeddings]
        seen = [math.exp(float(q @ other) / float(q.norm()) / 0.05) for other in anchor.embeddings]
        for a, b in zip(wanted, seen, strict=True):
            total += a / sum(wanted) * (math.log(a / sum(wanted)) - math.log(b / sum(seen)))
    assert LOSSES["csd"](anchor)(batch).item() == pytest.approx(total / 12, rel=1e-4)


def test_csd_is_least_at_the_gallery_embedding_and_looks_at_a_sample_of_many(anchor, batch, monkeypatch):
    monkeypatch.setattr(csd, "_CONTEXT", 7)
    loss = LOSSES["csd"](anchor)
    assert loss.context.shape == (7, 6)
    assert loss(replace(batch, query=anchor.embeddings)).item() == pytest.approx(0, abs=1e-6)
    assert loss(batch).item() > 0.01


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_pulls_a_query_to_its_gallery_embedding(name, anchor):
    """Descent from a random start ends nearer to the gallery side than it began."""
    torch.manual_seed(1)
    query = torch.randn(12, 6, requires_grad=True)
    loss = LOSSES[name](anchor)
    target = anchor.classifier[anchor.labels] if name == "bct" else anchor.embeddings
    optimiser = torch.optim.SGD([query], lr=0.5)

    def cosine() -> float:
        return torch.nn.functional.cosine_similarity(query, target).mean().item()

    start = cosine()
    for _ in range(200):
        optimiser.zero_grad()
        loss(Batch(query, anchor.embeddings, anchor.labels)).backward()
        optimiser.step()
    assert cosine() > max(start, 0.5)


def test_composite_is_the_weighted_sum(anchor, batch):
    parts = {name: LOSSES[name](anchor)(batch).item() for name in ("bct", "regression")}
    both = CompatLoss({"bct": 0.5, "regression": 3.0}, anchor)(batch).item()
    assert both == pytest.approx(0.5 * parts["bct"] + 3 * parts["regression"], rel=1e-5)
