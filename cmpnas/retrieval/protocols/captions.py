"""Image-text retrieval with several captions an image: Flickr30K 1K, COCO 5K and five folds of 1K.

Ground truth is a Karpathy file (``dataset_flickr30k.json``, ``dataset_coco.json``) or COCO's own
``captions_val2017.json``, plain or gzip. Of every image the first five captions count.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import DataError
from cmpnas.retrieval.evaluate import score
from cmpnas.retrieval.protocols.result import Result, results
from cmpnas.retrieval.protocols.vectors import must_be_unique
from cmpnas.retrieval.relevance import Neighbours, Relevance
from cmpnas.retrieval.similarity import Cosine, Given, Similarity

METRICS = ("hit@1", "hit@5", "hit@10")
_PER_IMAGE = 5
_FOLDS = 5


@dataclass(frozen=True)
class Captions:
    """Images and their captions.

    Attributes:
        image_ids: file names or ids, ``N``.
        captions: texts, ``C``.
        image_of: int64 ``(C,)``, row of the image that each caption describes.
    """

    image_ids: list[str]
    captions: list[str]
    image_of: np.ndarray

    @staticmethod
    def read(path: Path, split: str | None = "test") -> Captions:
        """A Karpathy or COCO file; ``split`` chooses in the former, which needs one.

        Raises:
            DataError: it is missing, damaged, of neither form, or an image lacks captions.
        """
        raw = _read_json(path)
        try:
            if "annotations" in raw:
                texts: dict[str, list[str]] = {str(image["id"]): [] for image in raw["images"]}
                for caption in raw["annotations"]:
                    texts[str(caption["image_id"])].append(caption["caption"])
            elif split is None:
                known = sorted({image["split"] for image in raw["images"]})
                raise DataError(f"{path} holds several splits; name one as split: {', '.join(known)}.")
            else:
                chosen = [image for image in raw["images"] if image["split"] == split]
                must_be_unique([image["filename"] for image in chosen], path)
                texts = {image["filename"]: [text["raw"] for text in image["sentences"]] for image in chosen}
        except (KeyError, TypeError) as fault:
            raise DataError(f"{path} is neither a Karpathy nor a COCO caption file (lacks {fault}).") from None
        if not texts:
            raise DataError(f"{path} has no image of split {split!r}.")
        short = next((name for name, own in texts.items() if len(own) < _PER_IMAGE), None)
        if short is not None:
            raise DataError(
                f"{path}: image {short!r} has {len(texts[short])} captions; the protocol needs {_PER_IMAGE}."
            )
        first = [caption for own in texts.values() for caption in own[:_PER_IMAGE]]
        if wrong := [caption for caption in first if not isinstance(caption, str)]:
            raise DataError(f"{path}: {wrong[0]!r} is no caption; every one must be a text.")
        return Captions(list(texts), first, np.repeat(np.arange(len(texts)), _PER_IMAGE))

    def results(self, images: np.ndarray, captions: np.ndarray) -> list[Result]:
        """All numbers of embeddings in the order of the images and captions; of 5,000 images also five folds."""
        lines = self._both_ways("", Cosine(images, captions), Cosine(captions, images), self.image_of)
        return lines + self._folds(lambda i, c: (Cosine(images[i], captions[c]), Cosine(captions[c], images[i])))

    def results_of_scores(self, scores: np.ndarray) -> list[Result]:
        """The same of a table of similarities ``(N, C)``, as a cross-attention scorer gives it."""
        table = np.asarray(scores)
        lines = self._both_ways("", Given(table), Given(table.T), self.image_of)
        return lines + self._folds(lambda i, c: (Given(table[i, c]), Given(table[i, c].T)))

    def _folds(self, of_fold: Callable[[slice, slice], tuple[Similarity, Similarity]]) -> list[Result]:
        """Means over five folds of consecutive images, where there are 5,000."""
        n = len(self.image_ids)
        if n != 5000:
            return []
        size = n // _FOLDS
        folds = []
        for start in range(0, n, size):
            captions = slice(start * _PER_IMAGE, (start + size) * _PER_IMAGE)
            i2t, t2i = of_fold(slice(start, start + size), captions)
            folds.append(self._both_ways("1K ", i2t, t2i, self.image_of[captions] - start))
        return [
            Result(
                lines[0].part, lines[0].metric, float(np.mean([line.value for line in lines])), None, lines[0].queries
            )
            for lines in zip(*folds, strict=True)
        ]

    @staticmethod
    def _both_ways(prefix: str, i2t: Similarity, t2i: Similarity, image_of: np.ndarray) -> list[Result]:
        n_images, n_captions = i2t.shape
        if n_captions != len(image_of):
            raise DataError(f"{n_captions} captions are scored; the benchmark has {len(image_of)}.")
        if n_images != image_of.max() + 1:
            raise DataError(f"{n_images} images are scored; the benchmark has {image_of.max() + 1}.")
        images = np.arange(n_images)
        lines: list[Result] = []
        total = 0.0
        for part, similarity, queries, gallery in (
            ("image to text", i2t, images, image_of),
            ("text to image", t2i, image_of, images),
        ):
            relevant = Neighbours.of_equal(queries, gallery, *similarity.shape, "images")
            first = f"mrr@{similarity.shape[1]}"
            scores = score(similarity, Relevance(relevant), (*METRICS, first))
            own = results(prefix + part, scores, METRICS)
            total += sum(line.value for line in own)
            lines += [*own, Result(prefix + part, "medr", scores.median_rank(first), None, len(queries))]
        return [*lines, Result(prefix + "both", "rsum", 100 * total, None, n_images + n_captions)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
        value = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give a Karpathy or COCO caption file.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise DataError(f"{path} cannot be read as JSON ({fault}); fetch it again.") from None
    if not isinstance(value, dict) or "images" not in value:
        raise DataError(f"{path} is neither a Karpathy nor a COCO caption file (no 'images').")
    return value
