"""Tokens: beginnings of a vocabulary are vocabularies, files survive, bad queries are told."""

from __future__ import annotations

import pytest

from cmpnas.errors import DataError, RunError
from cmpnas.text.tokeniser import PAD, UNKNOWN, Tokeniser

pytest.importorskip("tokenizers")
CAPTIONS = [
    f"a {colour} {thing}, {pattern} in {other}"
    for colour in ("red", "navy", "teal")
    for thing in ("mug", "bottle", "bowl")
    for pattern in ("striped", "dotted")
    for other in ("white", "orange", "Grey")
]


@pytest.fixture(scope="module")
def tokeniser() -> Tokeniser:
    return Tokeniser.train(CAPTIONS, 90, 12)


@pytest.mark.parametrize("vocabulary", [30, 45, 60, 89])
def test_a_limited_tokeniser_is_the_one_trained_to_that_size(tokeniser, vocabulary):
    trained = Tokeniser.train(CAPTIONS, vocabulary, 12)
    limited = tokeniser.limited(vocabulary)
    assert len(limited) == len(trained)
    assert (limited.encode(CAPTIONS) == trained.encode(CAPTIONS)).all()


def test_texts_are_cut_and_filled_up(tokeniser):
    ids = tokeniser.encode(["red mug", "red mug " * 20])
    assert ids.shape == (2, 12)
    assert (ids[0, 2:] == PAD).all()
    assert (ids[0, :2] > UNKNOWN).all()
    assert (ids[1] == [*ids[0, :2]] * 6).all()
    assert tokeniser.cut(["red mug", "red mug " * 20]) == 1
    assert (tokeniser.encode(["RED Mug"]) == tokeniser.encode(["red mug"])).all()
    wide = "\N{FULLWIDTH LATIN SMALL LETTER R}\N{FULLWIDTH LATIN SMALL LETTER E}\N{FULLWIDTH LATIN SMALL LETTER D}"
    assert (tokeniser.encode([wide]) == tokeniser.encode(["red"])).all()


def test_a_file_gives_the_same_numbers_and_plain_tokenizers_reads_it(tokeniser, tmp_path):
    from tokenizers import Tokenizer

    tokeniser.save(tmp_path / "tokeniser.json")
    again = Tokeniser.load(tmp_path / "tokeniser.json")
    assert again.max_tokens == 12
    assert (again.encode(CAPTIONS) == tokeniser.encode(CAPTIONS)).all()
    plain = Tokenizer.from_file(str(tmp_path / "tokeniser.json"))
    assert plain.encode(CAPTIONS[0]).ids == tokeniser.encode(CAPTIONS[:1])[0].tolist()
    (tmp_path / "tokeniser.json").write_text("{}")
    with pytest.raises(RunError, match="cannot be read as a tokeniser"):
        Tokeniser.load(tmp_path / "tokeniser.json")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the query '' is empty"),
        ("   ", "is empty"),
        ("日本 語", "nothing in the query '日本 語' is known"),
        ("red mug " * 7, "the query has 14 tokens; this run reads at most 12"),
    ],
)
def test_bad_queries_are_told(tokeniser, query, message):
    with pytest.raises(DataError, match=message):
        tokeniser.encode_query(query)
    assert (tokeniser.encode_query("red mug 日本")[0, 2] == UNKNOWN).all()


def test_a_padding_token_that_somebody_types_is_a_word(tokeniser):
    assert (tokeniser.encode(["[PAD] red mug"]) == tokeniser.encode(["[pad] red mug"])).all()
    assert PAD not in tokeniser.encode_query("[PAD] mug")[0, :3]


def test_a_vocabulary_is_no_larger_than_asked():
    ideographs = [chr(0x4E00 + n) for n in range(300)]
    assert len(Tokeniser.train([*CAPTIONS, *ideographs], 120, 12)) == 120
