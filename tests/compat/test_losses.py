"""Each loss against a naive loop, and what each must do for compatibility."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cmpnas.compat import LOSSES, Anchor, Batch, CompatLoss, csd, lce, rank_order
from cmpnas.errors import RecipeError


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


def test_bct_with_its_own_classifier_fixed_to_the_gallery_s_is_influence(anchor, batch):
    both, alone = LOSSES["bct"](anchor), LOSSES["influence"](anchor)
    assert alone(batch).item() == pytest.approx(both(batch).item(), abs=1e-6)
    alone(batch).backward()
    assert [p.requires_grad for p in alone.parameters()] == [False]


def test_l2_equals_a_naive_loop(anchor, batch):
    pairs = zip(batch.query.tolist(), batch.gallery.tolist(), strict=True)
    total = sum((a - b) ** 2 for q, g in pairs for a, b in zip(q, g, strict=True))
    assert LOSSES["l2"](anchor)(batch).item() == pytest.approx(total / 12, rel=1e-6)


def test_vanilla_is_the_gallery_s_softmax_through_weights_that_know_nothing_of_it(anchor, batch):
    torch.manual_seed(3)
    loss = LOSSES["vanilla"](anchor)
    weights = unit(loss.own.weight)
    total = 0.0
    for q, label in zip(unit(batch.query), batch.labels.tolist(), strict=True):
        logits = [8 * dot(q, w) for w in weights]
        logits[label] = 8 * math.cos(math.acos(logits[label] / 8) + 0.2)
        total += math.log(sum(math.exp(x) for x in logits)) - logits[label]
    assert loss(batch).item() == pytest.approx(total / 12, rel=1e-5)
    turned = replace(batch, gallery=batch.gallery.flip(1))
    assert loss(turned).item() == loss(batch).item()


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
    rows = [anchor.embeddings.tolist().index(row) for row in loss.context.tolist()]
    assert len(set(rows)) == 7
    assert max(rows) > 6  # not the first seven
    assert loss(replace(batch, query=anchor.embeddings)).item() == pytest.approx(0, abs=1e-6)
    assert loss(batch).item() > 0.01


def unit(rows):
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.tolist()]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_contrastive_equals_a_naive_loop(anchor, batch):
    query, gallery, labels = unit(batch.query), batch.gallery.tolist(), batch.labels.tolist()
    total = 0.0
    for q, own in zip(query, labels, strict=True):
        squared = [2 - 2 * dot(q, g) for g in gallery]
        near = [d for d, y in zip(squared, labels, strict=True) if y == own]
        far = sorted(math.sqrt(d) for d, y in zip(squared, labels, strict=True) if y != own)[:5]
        total += 0.5 * sum(near) / len(near) + 0.5 * sum(max(0.7 - d, 0) ** 2 for d in far) / 5
    assert LOSSES["contrastive"](anchor)(batch).item() == pytest.approx(total / 12, abs=1e-5)


def test_raml_equals_a_naive_loop(anchor, batch):
    query, gallery = unit(batch.query), batch.gallery.tolist()
    own = sum((1 - dot(q, g)) ** 2 for q, g in zip(query, gallery, strict=True)) / 12
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    cross = sum((dot(query[i], gallery[j]) - dot(gallery[i], gallery[j])) ** 2 for i, j in pairs) / len(pairs)
    inner = sum((dot(query[i], query[j]) - dot(gallery[i], gallery[j])) ** 2 for i, j in pairs) / len(pairs)
    assert LOSSES["raml"](anchor)(batch).item() == pytest.approx(own + 0.75 * cross + 0.7 * inner, abs=1e-5)


@pytest.mark.parametrize("nearest", [96, 5])
def test_rank_order_equals_a_naive_loop(anchor, batch, monkeypatch, nearest):
    monkeypatch.setattr(rank_order, "_NEAREST", nearest)
    query, gallery = unit(batch.query), batch.gallery.tolist()
    costs = []
    for q, g in zip(query, gallery, strict=True):
        order = sorted(range(12), key=lambda j: -dot(g, gallery[j]))[:nearest]
        for a in range(len(order)):
            for b in range(a + 1, len(order)):
                late, early = dot(q, gallery[order[b]]), dot(q, gallery[order[a]])
                costs.append(1 / (1 + math.exp(-(late - early) / 0.1)))
    assert LOSSES["rank_order"](anchor)(batch).item() == pytest.approx(sum(costs) / len(costs), abs=1e-5)


def test_d3still_equals_a_naive_loop(anchor, batch):
    query, gallery = unit(batch.query), batch.gallery.tolist()
    own = sum((1 - dot(q, g)) ** 2 for q, g in zip(query, gallery, strict=True)) / 12
    wrong, right = [], []
    for q, g in zip(query, gallery, strict=True):
        near = sorted(range(12), key=lambda j: -dot(g, gallery[j]))[:10]
        for a in near:
            for b in near:
                seen, wanted = (dot(v, gallery[a]) - dot(v, gallery[b]) for v in (q, g))
                (wrong if seen * wanted < 0 else right).append((seen - wanted) ** 2)
    pairs = len(wrong) + len(right)
    expected = own + 50 * sum(wrong) / pairs + sum(right) / pairs
    assert LOSSES["d3still"](anchor)(batch).item() == pytest.approx(expected, rel=1e-4)


def test_lce_equals_a_naive_loop(anchor, batch):
    query, labels = unit(batch.query), batch.labels.tolist()
    centres, gallery = anchor.classifier.tolist(), anchor.embeddings.tolist()
    bound = [min(dot(g, centres[y]) for g, own in zip(gallery, labels, strict=True) if own == y) for y in range(4)]
    outside = [max(0, bound[y] - dot(q, centres[y])) for q, y in zip(query, labels, strict=True)]
    loss = LOSSES["lce"](anchor)
    own = loss.own(batch.query, batch.labels).item()  # its class weights are the gallery's: nothing to align
    assert loss(batch).item() == pytest.approx(own + sum(outside) / 12, abs=1e-5)
    with torch.no_grad():
        loss.own.weight[0] = -loss.own.weight[0]
    moved = 100 * 4 * sum(x * x for x in centres[0]) / 24
    own = loss.own(batch.query, batch.labels).item()
    assert loss(batch).item() == pytest.approx(own + moved + sum(outside) / 12, rel=1e-5)


def test_lce_s_bounds_are_of_all_labelled_pictures_however_many_are_read_at_once(anchor, monkeypatch):
    labels = torch.where(torch.arange(12) % 4 == 3, -1, anchor.labels)  # nothing shows class 3
    labels[0] = -1
    expected = [1.0] * 4
    for g, label in zip(anchor.embeddings.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            expected[label] = min(expected[label], dot(g, anchor.classifier[label].tolist()))
    for rows in (5, 65_536):
        monkeypatch.setattr(lce, "_ROWS", rows)
        assert LOSSES["lce"](replace(anchor, labels=labels)).bound.tolist() == pytest.approx(expected, abs=1e-6)


def test_shared_head_equals_a_naive_loop(anchor, batch):
    loss = LOSSES["shared_head"](anchor)
    with torch.no_grad():
        loss.head.weight[0] *= -1.5  # a head that has learned
    heads, total = unit(loss.head.weight), 0.0
    for q, g, label in zip(unit(batch.query), batch.gallery.tolist(), batch.labels.tolist(), strict=True):
        chances = []
        for side in (q, g):
            logits = [8 * dot(side, head) for head in heads]
            chances.append([math.exp(x) / sum(map(math.exp, logits)) for x in logits])
            logits[label] = 8 * math.cos(math.acos(logits[label] / 8) + 0.2)
            total += 0.5 * (math.log(sum(map(math.exp, logits))) - logits[label])
        total += sum(w * math.log(w / s) for s, w in zip(*chances, strict=True))
    assert loss(batch).item() == pytest.approx(total / 12, rel=1e-4)


def test_shared_head_learns_from_both_sides_and_its_target_stays(anchor, batch):
    loss = LOSSES["shared_head"](anchor)
    there = replace(batch, query=anchor.embeddings.clone().requires_grad_())
    own = loss.head(there.gallery, there.labels).item()
    assert loss(there).item() == pytest.approx(own, rel=1e-5)  # no divergence, and the same cross-entropy twice
    loss(batch).backward()
    assert loss.head.weight.grad.abs().sum() > 0
    assert not batch.gallery.requires_grad


def test_shared_head_learns_nothing_from_its_target(anchor, batch):
    loss = LOSSES["shared_head"](anchor)
    loss(batch).backward()
    heads = torch.nn.functional.normalize(loss.head.weight)
    wanted = (8 * batch.gallery @ anchor.classifier.T).softmax(1)  # a constant
    seen = (8 * torch.nn.functional.normalize(batch.query) @ heads.T).softmax(1)
    divergence = (wanted * (wanted.log() - seen.log())).sum() / 12
    own = loss.head(batch.query, batch.labels) + loss.head(batch.gallery, batch.labels)
    (expected,) = torch.autograd.grad(divergence + own / 2, loss.head.weight)
    torch.testing.assert_close(loss.head.weight.grad, expected, rtol=1e-4, atol=1e-5)


def test_shared_head_pulls_a_query_to_the_side_of_the_gallery_s_class(anchor):
    """What no class depends on stays as it was: that is for `regression`."""
    near = torch.nn.functional.normalize(anchor.classifier[anchor.labels] + 0.1 * torch.randn(12, 6))
    query = torch.randn(12, 6, requires_grad=True)
    loss = LOSSES["shared_head"](replace(anchor, embeddings=near))
    optimiser = torch.optim.SGD([query, *loss.parameters()], lr=2.0)

    def known() -> float:
        return ((query @ anchor.classifier.T).argmax(1) == anchor.labels).float().mean().item()

    assert known() < 0.8
    for _ in range(300):
        optimiser.zero_grad()
        loss(Batch(query, near, anchor.labels)).backward()
        optimiser.step()
    assert known() == 1


def test_kd_equals_a_naive_loop(anchor, batch):
    loss, total = LOSSES["kd"](anchor), 0.0
    weights, biases = loss.own.weight.tolist(), loss.own.bias.tolist()
    for q, g in zip(batch.query.tolist(), batch.gallery.tolist(), strict=True):
        wanted = [math.exp(8 * dot(g, w) / 4) for w in anchor.classifier.tolist()]
        seen = [math.exp((dot(q, w) + bias) / 4) for w, bias in zip(weights, biases, strict=True)]
        for a, b in zip(wanted, seen, strict=True):
            total += 16 * a / sum(wanted) * math.log(a / sum(wanted) / (b / sum(seen)))
    assert loss(batch).item() == pytest.approx(total / 12, rel=1e-4)


def test_rkd_and_pkt_equal_naive_loops(anchor, batch):
    sides = unit(batch.query), batch.gallery.tolist()
    distance, angle, near = [], [], []
    for rows in sides:
        raw = [math.dist(a, b) for a in rows for b in rows if a is not b]
        distance.append([12 * 11 * d / sum(raw) for d in raw])
        cosines = []
        for b in rows:
            arms = [[x - y for x, y in zip(a, b, strict=True)] for a in rows]
            norms = [math.sqrt(dot(arm, arm)) for arm in arms]
            units = [[x / (norm or 1) for x in arm] for arm, norm in zip(arms, norms, strict=True)]
            cosines += [dot(p, q) for p in units for q in units]
        angle.append(cosines)
        kernel = [[(1 + dot(a, b)) / 2 * (a is not b) for b in rows] for a in rows]
        near.append([[k / sum(row) for k in row] for row in kernel])

    def huber(a, b):
        return sum(0.5 * (x - y) ** 2 if abs(x - y) < 1 else abs(x - y) - 0.5 for x, y in zip(a, b, strict=True)) / len(
            a
        )

    assert LOSSES["rkd"](anchor)(batch).item() == pytest.approx(25 * huber(*distance) + 50 * huber(*angle), rel=1e-3)
    divergence = sum(w * math.log(w / s) for a, b in zip(*near, strict=True) for s, w in zip(a, b, strict=True) if w)
    assert LOSSES["pkt"](anchor)(batch).item() == pytest.approx(divergence / 12, rel=1e-3)


CONTROLS = ("kd", "pkt", "rkd", "vanilla")
TYING = sorted(set(LOSSES) - {*CONTROLS, "rank_order", "shared_head"})


@pytest.mark.parametrize("name", ["pkt", "rkd"])
def test_controls_cannot_tell_a_turned_space_from_the_gallery_s(name, anchor, batch):
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    loss = LOSSES[name](anchor)
    assert loss(replace(batch, query=batch.query @ turn)).item() == pytest.approx(loss(batch).item(), rel=1e-4)
    assert loss(replace(batch, query=anchor.embeddings @ turn)).item() == pytest.approx(0, abs=1e-4)


def test_kd_cannot_tell_a_turned_space_with_its_classifier(anchor, batch):
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    loss = LOSSES["kd"](anchor)
    before = loss(batch).item()
    with torch.no_grad():
        loss.own.weight.copy_(loss.own.weight @ turn)
    assert loss(replace(batch, query=batch.query @ turn)).item() == pytest.approx(before, rel=1e-4)


def test_rank_order_is_least_where_the_order_is_the_gallery_s(anchor, batch):
    loss = LOSSES["rank_order"](anchor)
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    assert loss(replace(batch, query=anchor.embeddings)) < loss(replace(batch, query=anchor.embeddings @ turn))


@pytest.mark.parametrize("name", sorted(name for name in LOSSES if "labels" in LOSSES[name].needs))
def test_losses_that_need_labels_say_so_and_leave_the_rest_out(name, anchor, batch):
    loss = LOSSES[name](anchor)
    known = batch.labels < 2
    part = Batch(batch.query[known], batch.gallery[known], batch.labels[known])
    some = replace(batch, labels=torch.where(known, batch.labels, -1))
    assert loss(some).item() == pytest.approx(loss(part).item(), abs=1e-5)
    none = loss(replace(batch, labels=torch.full((12,), -1)))
    none.backward()
    assert none.item() == pytest.approx(0, abs=1e-6)
    assert batch.query.grad is not None
    with pytest.raises(RecipeError, match=f"loss {name!r} needs labels and no picture of data.pool has one"):
        CompatLoss({"regression": 1.0, name: 1.0}, replace(anchor, labels=torch.full((12,), -1)))


@pytest.mark.parametrize("name", TYING)
def test_every_loss_pulls_a_query_to_its_gallery_embedding(name, anchor):
    """Descent from a random start ends nearer to the gallery side than it began."""
    torch.manual_seed(1)
    query = torch.randn(12, 6, requires_grad=True)
    loss = LOSSES[name](anchor)
    means = torch.stack([anchor.embeddings[anchor.labels == label].mean(0) for label in range(4)])
    by_class = dict.fromkeys(("bct", "influence", "lce"), anchor.classifier) | {"contrastive": means}
    target = by_class[name][anchor.labels] if name in by_class else anchor.embeddings
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
