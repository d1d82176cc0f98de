"""The fine model against a loop over queries, candidates and words; what a score must not depend on; losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmpnas.text.blocks import Words
from cmpnas.text.coarse import RegionPool, SummaryPool
from cmpnas.text.encoding import FineScorer
from cmpnas.text.fine import FineMember, FineModel
from cmpnas.text.losses import follow, hardest, infonce, triplet
from cmpnas.text.settings import CoarseSettings, FineSettings

PLAN = {"epochs": 1, "batch_size": 4, "lr": 0.001}
QUERIES, CANDIDATES, LENGTH, REGIONS, CHANNELS = 3, 4, 7, 5, 11


@pytest.fixture(scope="module")
def fine() -> FineModel:
    """Of a single member."""
    torch.manual_seed(0)
    text = {"vocabulary": 30, "width": 12, "mixer": "transformer", "layers": 1, "heads": 2, "ratio": 2}
    settings = FineSettings(text=text, dim=10, similarity=6, negatives=2, train=PLAN)
    return FineModel(settings, LENGTH, CHANNELS).eval()


@pytest.fixture
def ids() -> torch.Tensor:
    ids = torch.randint(2, 30, (QUERIES, LENGTH), generator=torch.Generator().manual_seed(1))
    ids[0, 3:], ids[1, 5:] = 0, 0
    return ids


def one_score(fine: FineMember, words: torch.Tensor, regions: torch.Tensor) -> float:
    """The score of a single query, words ``(l, D)`` without padding, and a single picture, ``(R, D)``, word by word."""
    vectors, cosines = [], []
    for word in words:
        weights = torch.exp(fine.sharpness * (regions @ word))
        attended = sum(w * r for w, r in zip(weights / weights.sum(), regions, strict=True))
        attended = attended / attended.norm()
        cosines.append(float(attended @ word))
        vector = fine.local((attended - word) ** 2)
        vectors.append(vector / vector.norm())
    text, picture = words.sum(0) / words.sum(0).norm(), regions.mean(0) / regions.mean(0).norm()
    whole = fine.whole((picture - text) ** 2)
    vectors.insert(0, whole / whole.norm())
    gates = [torch.sigmoid(fine.filter(vector)) for vector in vectors]
    together = sum(g * v for g, v in zip(gates, vectors, strict=True)) / sum(gates)
    return float(fine.scale * (np.mean(cosines) + text @ picture + fine.judge(together)[0]))


@torch.no_grad()
def test_scores_are_those_of_a_loop_over_queries_candidates_and_words(fine, ids):
    pictures = fine.regions(torch.randn(QUERIES * CANDIDATES, REGIONS, CHANNELS)).unflatten(0, (QUERIES, CANDIDATES))
    words = fine.words(ids)
    scores = fine(words, pictures)
    for q in range(QUERIES):
        own = words.vectors[q][words.there[q]]
        for k in range(CANDIDATES):
            assert abs(one_score(fine.members[0], own, pictures[q, k]) - float(scores[q, k])) < 1e-5 * 14


@torch.no_grad()
def test_padding_order_and_company_never_change_a_score(fine, ids):
    pictures = fine.regions(torch.randn(6, REGIONS, CHANNELS))
    whole = fine(fine.words(ids), pictures[None].expand(QUERIES, -1, -1, -1))
    order = torch.tensor([2, 0, 1])
    mixed = fine(fine.words(ids[order]), pictures[None].expand(QUERIES, -1, -1, -1))
    torch.testing.assert_close(mixed, whole[order], atol=1e-5, rtol=1e-5)
    alone = fine(fine.words(ids[:1, :3]), pictures[None, 2:4])  # neither padding, nor other queries and candidates
    torch.testing.assert_close(alone, whole[:1, 2:4], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_scan_of_stored_regions_gives_the_model_s_own_scores(fine):
    class Letters:  # one token a letter
        def encode(self, texts):
            return np.array([[ord(c) - 95 for c in text.ljust(LENGTH, "_")] for text in texts])

    stored = fine.regions(torch.randn(600, REGIONS, CHANNELS)).numpy()
    scorer = FineScorer(fine, Letters(), stored)
    texts = ["abc", "hello", "zz", "abcdefg"] * 3
    table = scorer.scan(texts)
    assert table.shape == (12, 600)
    ids = torch.from_numpy(Letters().encode(["hello"]))
    direct = fine(fine.words(ids[:, :5]), torch.from_numpy(stored)[None])
    np.testing.assert_allclose(table[1], direct[0].numpy(), atol=2e-4)


def test_multiply_adds_of_a_score_are_fvcores_of_its_products(fine):
    from fvcore.nn import FlopCountAnalysis

    class Untupled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fine = fine

        def forward(self, vectors, there, pictures):
            return self.fine(Words(vectors, there), pictures)

    inputs = torch.randn(1, LENGTH, 10), torch.ones(1, LENGTH, dtype=torch.bool), torch.randn(1, 1, REGIONS, 10)
    counted = FlopCountAnalysis(Untupled(), inputs).unsupported_ops_warnings(False)
    products = sum(counted.by_operator()[name] for name in ("linear", "einsum"))
    assert products == fine.macs(LENGTH, REGIONS)


def test_regions_are_pooled_by_learned_weights_or_equal_ones():
    settings = CoarseSettings(dim=6, supernet=PLAN, train=PLAN)
    torch.manual_seed(0)
    pool, regions = RegionPool(settings, CHANNELS), torch.randn(2, REGIONS, CHANNELS)
    normed = pool.norm(regions)
    weights = torch.softmax(pool.weigh(normed)[..., 0], 1)
    expected = F.normalize(torch.stack([sum(weights[n, r] * pool.map(normed)[n, r] for r in range(5)) for n in (0, 1)]))
    torch.testing.assert_close(pool(regions), expected)
    torch.testing.assert_close(pool(regions[:, [3, 1, 0, 4, 2]]), expected)
    mean = RegionPool(settings.model_copy(update={"pool": "mean"}), CHANNELS)
    torch.testing.assert_close(mean(regions), F.normalize(mean.map(mean.norm(regions)).mean(1)))


def test_losses_are_their_loops():
    torch.manual_seed(0)
    cosine = torch.rand(5, 6) * 2 - 1
    same = torch.zeros(5, 6, dtype=torch.bool)
    same[torch.arange(5), torch.arange(5)] = True
    same[1, 0] = same[2, 5] = True
    ways = ((cosine, same), (cosine.T, same.T))
    nce = [
        [-np.log(sum(np.exp(r[s])) / sum(np.exp(r))) for r, s in zip(c.numpy(), m.numpy(), strict=True)]
        for c, m in ways
    ]
    assert infonce(cosine, same).item() == pytest.approx((np.mean(nce[0]) + np.mean(nce[1])) / 2, abs=1e-6)
    assert infonce(cosine, torch.zeros_like(same)).item() == 0
    hinges = [
        [max(0.0, 0.2 + r[~s].max() - r[s].min()) for r, s in zip(c.numpy(), m.numpy(), strict=True)] for c, m in ways
    ]
    assert triplet(cosine, same, 0.2).item() == pytest.approx((np.mean(hinges[0]) + np.mean(hinges[1])) / 2, abs=1e-6)
    chosen = hardest(cosine, same, 2)
    for row in range(5):
        wrong = sorted((n for n in range(6) if not same[row, n]), key=lambda n: -cosine[row, n])[:2]
        right = max((n for n in range(6) if same[row, n]), key=lambda n: cosine[row, n])
        assert chosen[row].tolist() == [right, *wrong]
    assert follow(cosine, cosine + 3).item() == pytest.approx(0, abs=1e-6)
    student, teacher = (rows.softmax(1).tolist() for rows in (cosine, -2 * cosine))
    told = [sum(t * np.log(t / s) for s, t in zip(*rows, strict=True)) for rows in zip(student, teacher, strict=True)]
    assert follow(cosine, -2 * cosine).item() == pytest.approx(np.mean(told), rel=1e-5)


def test_who_has_nobody_right_or_nobody_wrong_counts_nothing():
    cosine = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    same = torch.tensor([[0, 0, 0], [1, 1, 1], [0, 1, 1], [0, 1, 0]], dtype=torch.bool)  # captions by pictures
    nce, hinges = [], []
    for table, right in ((cosine.numpy(), same.numpy()), (cosine.T.numpy(), same.T.numpy())):
        rows = list(zip(table, right, strict=True))
        nce.append(np.mean([-np.log(np.exp(c[r]).sum() / np.exp(c).sum()) for c, r in rows if r.any()]))
        both = [(c, r) for c, r in rows if r.any() and not r.all()]
        hinges.append(np.mean([max(0.0, 0.2 + c[~r].max() - c[r].min()) for c, r in both]))
    assert infonce(cosine, same).item() == pytest.approx(np.mean(nce), rel=1e-5)
    assert triplet(cosine, same, 0.2).item() == pytest.approx(np.mean(hinges), rel=1e-5)


@pytest.mark.parametrize("right", [False, True])
def test_hinges_without_a_pair_to_tell_apart_are_nothing(right):
    cosine = torch.rand(2, 3, requires_grad=True)
    loss = triplet(cosine, torch.full((2, 3), right), 0.2)
    loss.backward()
    assert loss.item() == 0
    assert (cosine.grad == 0).all()


@torch.no_grad()
def test_several_members_are_averaged_and_stored_side_by_side(fine, ids):
    text = {"vocabulary": 30, "width": 12, "mixer": "transformer", "layers": 1, "heads": 2, "ratio": 2}
    settings = FineSettings(text=text, dim=10, similarity=6, negatives=2, members=3, train=PLAN)
    torch.manual_seed(1)
    whole = FineModel(settings, LENGTH, CHANNELS).eval()
    given = torch.randn(5, REGIONS, CHANNELS)
    assert whole.dim == whole.regions(given).shape[2] == 30
    assert whole.macs(7, 5) == 3 * fine.macs(7, 5)
    alone = [m(m.words(ids), m.regions(given)[None].expand(QUERIES, -1, -1, -1)) for m in whole.members]
    together = whole(whole.words(ids), whole.regions(given)[None].expand(QUERIES, -1, -1, -1))
    torch.testing.assert_close(together, sum(alone) / 3)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


@pytest.fixture
def three() -> FineModel:
    """Of three members."""
    text = {"vocabulary": 30, "width": 12, "mixer": "bag"}
    settings = FineSettings(text=text, dim=10, similarity=6, negatives=2, members=3, train=PLAN)
    torch.manual_seed(2)
    return FineModel(settings, LENGTH, CHANNELS).eval()


@torch.no_grad()
def test_in_all_directions_cosines_of_summaries_are_the_means_of_the_members_own(three, ids):
    pool = SummaryPool(CoarseSettings(dim=30, pool="summary", supernet=PLAN, train=PLAN), three)
    pictures = torch.randn(40, REGIONS, CHANNELS)
    pool.orient(pool.summaries(pictures))
    found = pool.reduced(three.described(ids)) @ pool(pictures).T
    expected = torch.zeros(QUERIES, 40)
    for member in three.members:
        words, regions = member.words(ids), member.regions(pictures)
        for q in range(QUERIES):
            text = words.vectors[q][words.there[q]].mean(0)
            for n in range(40):
                expected[q, n] += F.cosine_similarity(text, regions[n].mean(0), dim=0) / 3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert pool(pictures).norm(dim=1).allclose(torch.ones(40))
    assert not any(parameter.requires_grad for parameter in pool.see.parameters())


@torch.no_grad()
def test_fewer_directions_keep_what_pca_keeps(three):
    pool = SummaryPool(CoarseSettings(dim=4, pool="summary", supernet=PLAN, train=PLAN), three)
    summaries = pool.summaries(torch.randn(40, REGIONS, CHANNELS))
    pool.orient(summaries)
    singular = torch.linalg.svdvals(summaries)
    assert (summaries @ pool.directions).square().sum().item() == pytest.approx(singular[:4].square().sum().item())
    torch.testing.assert_close(pool.directions.T @ pool.directions, torch.eye(4), atol=1e-5, rtol=0)
