"""Mixers against a transformer written out, and their cost against fvcore."""

from __future__ import annotations

import math

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional as F

from cmpnas.cost.audit import _FREE, _attention, _nothing
from cmpnas.models.mixer import MIXERS, TransformerMixer

SHAPES = ((1, 6), (1, 10), (4, 7))
TRANSFORMER = {"layers": 2, "heads": 4, "expansion": 3}


def mixer(kind="transformer", dim=16, **options):
    torch.manual_seed(0)
    return MIXERS[kind](SHAPES, dim, **(TRANSFORMER | options if kind == "transformer" else options))


def features(batch=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, count, width, generator=generator) for count, width in SHAPES]


def naive_attention(layer: nn.TransformerEncoderLayer, rows: torch.Tensor) -> torch.Tensor:
    """One picture, ``(S, d)``: head by head, query by query."""
    attention, dim = layer.self_attn, rows.shape[1]
    size = dim // attention.num_heads
    query, key, value = (
        rows @ weight.T + bias
        for weight, bias in zip(attention.in_proj_weight.split(dim), attention.in_proj_bias.split(dim), strict=True)
    )
    out = torch.zeros_like(rows)
    for head in range(attention.num_heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(rows)):
            scores = [float(query[i, part] @ key[j, part]) / math.sqrt(size) for j in range(len(rows))]
            weights = [math.exp(score - max(scores)) for score in scores]
            for j, weight in enumerate(weights):
                out[i, part] += weight / sum(weights) * value[j, part]
    return attention.out_proj(out)


def naive(mixer: TransformerMixer, parts: list[torch.Tensor]) -> torch.Tensor:
    """One picture by the formulas of the paper: post-norm layers over the fusion token and all others."""
    tokens = [mixer.fusion]
    for (_, linear), part in zip(mixer.project, parts, strict=True):
        tokens += [linear(row / row.square().mean().sqrt()) for row in part]
    rows = torch.stack(tokens)
    for layer in mixer.layers:
        rows = layer.norm1(rows + naive_attention(layer, rows))
        rows = layer.norm2(rows + layer.linear2(F.gelu(layer.linear1(rows))))
    return rows[0]


@pytest.mark.parametrize("evaluating", [True, False])
def test_the_transformer_is_the_papers(evaluating):
    model = mixer().train(not evaluating)
    given = features()
    with torch.no_grad():
        found = model(given)
        for picture in range(3):
            expected = naive(model, [part[picture] for part in given])
            assert found[picture] == pytest.approx(expected.numpy(), abs=2e-5)
    assert found.shape == (3, 16)


def test_baselines_are_what_they_say():
    given = features()
    tokens = torch.cat([F.linear(F.rms_norm(part, part.shape[2:], eps=1e-12), linear.weight, linear.bias)
                        for (_, linear), part in zip(mixer("mlp").project, given, strict=True)], 1)  # fmt: skip
    first, _, second = mixer("mlp").mix
    assert first.weight.shape == (6 * 16 // 2, 6 * 16)
    expected = second(F.gelu(first(tokens.flatten(1))))
    assert torch.allclose(mixer("mlp")(given), expected, atol=1e-5)

    model = mixer("concat")
    side_by_side = torch.cat([F.rms_norm(part, part.shape[2:], eps=1e-12).mean(1) for part in given], 1)
    weight = torch.cat([linear.weight for _, linear in model.project], 1)
    bias = sum(linear.bias for _, linear in model.project)
    assert torch.allclose(model(given), F.linear(side_by_side, weight, bias), atol=1e-5)


class Listed(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *parts):
        return self.model(list(parts))


@pytest.mark.parametrize("kind", MIXERS)
def test_cost_is_fvcores(kind):
    model = mixer(kind)
    count = FlopCountAnalysis(Listed(model), tuple(features(1)))
    count.set_op_handle(**dict.fromkeys(_FREE, _nothing), **{"aten::scaled_dot_product_attention": _attention})
    count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert count.total() == model.macs


def test_a_features_scale_and_the_order_of_a_sources_tokens_mean_nothing():
    model, given = mixer().eval(), features()
    scaled = [given[0] * 1000, given[1] * 1e-3, given[2][:, [2, 0, 3, 1]]]
    assert torch.allclose(model(given), model(scaled), atol=1e-5)
    assert not torch.allclose(model(given), model([given[0], given[1] + 1, given[2]]), atol=1e-2)
