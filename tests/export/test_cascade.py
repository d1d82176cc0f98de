"""Both stages in onnxruntime against torch: texts of every length, candidates in any order and number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmpnas.errors import RunError
from cmpnas.export.cascade import FineSession, TextSession, write_fine, write_text
from cmpnas.models.network import build_network
from cmpnas.space import SearchSpace
from cmpnas.text.fine import FineModel
from cmpnas.text.settings import FineSettings
from cmpnas.text.space import TextSpace, TextSpec

TOKENS, REGIONS, CHANNELS = 9, 5, 11
TEXTS = ["a", "bc", "wxyzabc", "abcdefghi"]
PLAN = {"epochs": 1, "batch_size": 4, "lr": 0.001}


class Letters:
    """One token a letter, cut and filled up to a length."""

    def encode(self, texts):
        return np.array([[ord(c) - 90 for c in text] + [0] * (TOKENS - len(text)) for text in texts])


def spec(mixer: str) -> dict:
    return {"vocabulary": 40, "width": 12, "mixer": mixer, "layers": 1, "heads": 2, "ratio": 2}


@pytest.mark.parametrize("mixer", ["bag", "gru", "transformer"])
def test_a_text_at_its_own_length_has_the_vector_of_a_padded_one(mixer, tmp_path):
    torch.manual_seed(0)
    space = SearchSpace(TextSpace(TextSpec(**spec(mixer), pool="weighted"), TOKENS), embedding_dim=8)
    network = build_network(space, space.extremes()[0]).eval()
    write_text(network, TOKENS, tmp_path / "query.onnx")
    found = TextSession.open(tmp_path / "query.onnx", Letters())(TEXTS)
    with torch.no_grad():
        expected = F.normalize(network(torch.from_numpy(Letters().encode(TEXTS))))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("mixer", ["gru", "transformer"])
def test_scores_are_the_model_s_own_whoever_is_scored_with_them(mixer, tmp_path):
    torch.manual_seed(0)
    fine = FineModel(FineSettings(text=spec(mixer), dim=10, similarity=6, train=PLAN), TOKENS, CHANNELS).eval()
    with torch.no_grad():
        stored = fine.regions(torch.randn(150, REGIONS, CHANNELS)).half()
        words = fine.words(torch.from_numpy(Letters().encode(TEXTS)))
        expected = fine(words, stored.float()[None].expand(len(TEXTS), -1, -1, -1)).numpy()
    write_fine(fine, TOKENS, REGIONS, tmp_path / "fine")
    session = FineSession.open(tmp_path / "fine", Letters(), stored.numpy())
    np.testing.assert_allclose(session.scan(TEXTS), expected, atol=1e-5 * 14)
    for count in (1, 70):
        rows = np.random.default_rng(count).permuted(np.tile(np.arange(150), (len(TEXTS), 1)), axis=1)[:, :count]
        np.testing.assert_allclose(session(TEXTS, rows), np.take_along_axis(expected, rows, 1), atol=1e-5 * 14)


def test_texts_of_two_words_at_most(tmp_path):
    torch.manual_seed(0)
    fine = FineModel(FineSettings(text=spec("transformer"), dim=10, similarity=6, train=PLAN), 2, CHANNELS).eval()
    write_fine(fine, 2, REGIONS, tmp_path / "fine")
    assert (tmp_path / "fine" / "judge.onnx").exists()


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "query.onnx").write_bytes(b"not a graph")
    with pytest.raises(RunError, match=r"query\.onnx cannot be run .* export it again"):
        TextSession.open(tmp_path / "query.onnx", Letters())
