"""Byte-pair tokens, learned from a recipe's captions by HuggingFace's ``tokenizers`` and saved with the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from cmpnas.errors import CmpnasError, DataError, RunError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN = 0, 1
_SPECIAL = ["[PAD]", "[UNK]"]


class Tokeniser:
    """Text to numbers: lower case, NFKC, byte-pair merges within words and runs of punctuation.

    Merges are numbered in the order in which they were learned, so the tokeniser of a smaller vocabulary is this one's
    beginning (`limited`), and so are its rows of an embedding table.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer, self.max_tokens = tokenizer, max_tokens

    @staticmethod
    def train(captions: Iterable[str], vocabulary: int, max_tokens: int) -> Tokeniser:
        """Learn at most ``vocabulary`` tokens; a text is ``max_tokens`` long at most.

        Raises:
            CmpnasError: the package ``tokenizers`` is not installed.
        """
        require_tokenizers()
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE(unk_token=_SPECIAL[UNKNOWN]))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=_SPECIAL,
            limit_alphabet=vocabulary - len(_SPECIAL),
            show_progress=False,
        )
        tokenizer.train_from_iterator(captions, trainer)
        content = json.loads(tokenizer.to_str()) | {"added_tokens": []}  # a text that says [PAD] means the word
        return Tokeniser(Tokenizer.from_str(json.dumps(content)), max_tokens)

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def limited(self, vocabulary: int) -> Tokeniser:
        """The tokeniser of the first ``vocabulary`` tokens: what training to that size would have given."""
        from tokenizers import Tokenizer

        content = json.loads(self._tokenizer.to_str())
        model = content["model"]
        model["vocab"] = {token: number for token, number in model["vocab"].items() if number < vocabulary}
        kept = [(first + second) in model["vocab"] for first, second in model["merges"]]
        model["merges"] = model["merges"][: kept.index(False) if False in kept else None]
        return Tokeniser(Tokenizer.from_str(json.dumps(content)), self.max_tokens)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Numbers of tokens, int64 ``(N, max_tokens)``: cut to that length, filled up with `PAD`."""
        numbers = np.full((len(texts), self.max_tokens), PAD, np.int64)
        # A batch wakes a pool of threads, which costs more than a single text does.
        one = len(texts) == 1
        encodings = [self._tokenizer.encode(texts[0])] if one else self._tokenizer.encode_batch(list(texts))
        for row, encoding in zip(numbers, encodings, strict=True):
            ids = encoding.ids[: self.max_tokens]
            row[: len(ids)] = ids
        return numbers

    def encode_query(self, text: str) -> np.ndarray:
        """`encode` of one query that must be whole and mean something: int64 ``(1, max_tokens)``.

        Raises:
            DataError: it is empty, longer than the limit, or nothing in it is known.
        """
        ids = self._tokenizer.encode(text).ids
        if not ids:
            raise DataError(f"the query {text!r} is empty; describe a picture in words.")
        if len(ids) > self.max_tokens:
            raise DataError(f"the query has {len(ids)} tokens; this run reads at most {self.max_tokens}: shorten it.")
        if all(number == UNKNOWN for number in ids):
            raise DataError(f"nothing in the query {text!r} is known to this run's tokeniser; use other words.")
        return self.encode([text])

    def cut(self, texts: Sequence[str]) -> int:
        """How many of ``texts`` are longer than the limit."""
        return sum(len(encoding.ids) > self.max_tokens for encoding in self._tokenizer.encode_batch(list(texts)))

    def save(self, path: Path) -> None:
        """Write a file that plain ``tokenizers`` reads, with cutting and padding in it."""
        ready = type(self._tokenizer).from_str(self._tokenizer.to_str())
        ready.enable_truncation(self.max_tokens)
        ready.enable_padding(length=self.max_tokens, pad_id=PAD, pad_token=_SPECIAL[PAD])
        ready.save(str(path))

    @staticmethod
    def load(path: Path) -> Tokeniser:
        """Read back what `save` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        require_tokenizers()
        from tokenizers import Tokenizer

        try:
            found = Tokenizer.from_file(str(path))
            limit = int((found.truncation or {})["max_length"])
        except Exception as fault:  # tokenizers raises bare Exception
            raise RunError(f"{path} cannot be read as a tokeniser ({fault}); delete it and use --resume.") from None
        found.no_truncation()
        found.no_padding()
        return Tokeniser(found, limit)


def trimmed(ids: Tensor) -> Tensor:
    """``ids`` ``(N, L)`` as far as any of these texts goes: padding changes no result, it only costs time."""
    return ids[:, : int((ids != PAD).sum(1).max())]


def require_tokenizers() -> None:
    """Raise a `CmpnasError` that says what to install, where ``tokenizers`` is missing."""
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        raise CmpnasError("texts need tokenizers; run: pip install -c constraints.txt -e '.[text]'") from None
