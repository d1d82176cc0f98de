"""Angular margins against the formulas, one item at a time."""

from __future__ import annotations

import math

import pytest
import torch

from cmpnas.models.heads import MarginClassifier, margin_logits


@pytest.mark.parametrize("kind", ["arcface", "cosface"])
def test_margin_logits_equal_the_formula(kind):
    torch.manual_seed(0)
    cosine = torch.empty(20, 5, dtype=torch.float64).uniform_(-1, 1)
    labels = torch.randint(5, (20,))
    got = margin_logits(cosine, labels, kind=kind, margin=0.4, scale=10.0)
    for i, target in enumerate(labels.tolist()):
        for k in range(5):
            c = cosine[i, k].item()
            if k == target:
                angle = math.acos(c)
                if kind == "cosface":
                    c -= 0.4
                else:
                    c = math.cos(angle + 0.4) if angle + 0.4 < math.pi else c - 0.4 * math.sin(0.4)
            assert got[i, k].item() == pytest.approx(10 * c, abs=1e-5)


def test_a_margin_makes_the_same_batch_harder():
    torch.manual_seed(0)
    weights, embeddings, labels = torch.randn(6, 8), torch.randn(30, 8), torch.randint(6, (30,))
    free = MarginClassifier(weights, margin=0.0)(embeddings, labels)
    hard = MarginClassifier(weights, margin=0.3)(embeddings, labels)
    assert hard > free
