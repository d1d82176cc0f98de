"""The sections of a text recipe: captions, pictures' regions, the coarse and the fine model, the search."""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from cmpnas.data.augment import Augment
from cmpnas.strict import Strict
from cmpnas.text.space import TextSpec
from cmpnas.train.loop import Plan
from cmpnas.train.supernet import SupernetPlan

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Whole = Annotated[int, Field(gt=0)]


class CaptionFile(Strict):
    """One split of a published caption set: row ``i`` of ``regions`` is image ``i`` of ``captions``.

    ``captions`` is a Karpathy JSON, of which ``split`` is read, or one split: a COCO JSON, or a text file of five lines
    an image.
    ``regions`` is an npy ``(N, R, C)``, or with every row five times, as files of SCAN and SGRAF are.
    """

    captions: str
    regions: str
    split: str | None = None


class KarpathySettings(Strict):
    """Captions with precomputed region features, as SCAN and SGRAF use them for Flickr30K and COCO."""

    reader: Literal["karpathy"]
    folder: str = ""
    train: CaptionFile
    search: CaptionFile
    test: CaptionFile


def _columns_alone(template: str) -> str:
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as fault:
        raise ValueError(f"{fault}; columns stand in braces, as in '{{name}}, {{keywords}}'") from None
    if any(not name or set(".[") & set(name) or form or turned for _, name, form, turned in fields):
        raise ValueError("braces hold the name of a column and nothing else, as in '{name}, {keywords}'")
    return template


Template = Annotated[str, AfterValidator(_columns_alone)]


class CaptionSettings(Strict):
    """What is said of pictures.

    ``train`` and ``query`` are templates on the columns of the data, ``"{name}, {keywords}"``: every training template
    is a caption of its own, and a test asks by ``query``. A text is read to ``max_tokens``; while training, each word
    is left out with probability ``drop``. A caption set brings its captions and needs no templates.
    """

    train: tuple[Template, ...] = ()
    query: Template = ""
    max_tokens: Annotated[int, Field(ge=2, le=512)] = 24
    drop: Share = 0.0


class EncoderRegions(Strict):
    """The grid of a map of an image encoder trained here, together with the fine model: the last of stage ``until``."""

    kind: Literal["encoder"]
    space: str
    arch: Literal["smallest", "largest"] | dict[str, int | float | str] = "smallest"
    until: str | None = None
    augment: Augment = Augment()


class OnnxRegions(Strict):
    """A feature map ``(B, C, H, W)`` of a finished model, ``output`` being any tensor in its graph, averaged to
    ``grid`` x ``grid`` regions. Pictures are given as ``(pixel - 127.5) / 127.5``."""

    kind: Literal["onnx"]
    file: str
    output: str
    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    grid: Annotated[int, Field(ge=1, le=32)] = 4


class GivenRegions(Strict):
    """The region features that came with the data."""

    kind: Literal["given"]


AnyRegions = Annotated[EncoderRegions | OnnxRegions | GivenRegions, Field(discriminator="kind")]


class FineSettings(Strict):
    """The cross-attention scorer.

    ``text`` is its encoder, one architecture. Words and regions meet in ``dim`` numbers; what a word and its attended
    regions have in common is a vector of ``similarity`` numbers. Every caption is trained against the ``negatives``
    pictures of its batch that look most like its own. Of ``members`` models, trained side by side, scores are averaged.
    """

    text: TextSpec
    dim: Whole = 192
    similarity: Whole = 96
    negatives: Whole = 15
    members: Whole = 1
    train: Plan

    @field_validator("text")
    @classmethod
    def _is_one(cls, text: TextSpec) -> TextSpec:
        if many := [name for name in text.open_decisions if name != "pool"]:
            raise ValueError(f"the fine model's encoder is one architecture; {many[0]} has several values")
        return text


class CoarseLoss(Strict):
    """Weights of what the coarse model learns by: InfoNCE, the triplet of the hardest negative (VSE++) with its
    ``margin``, following the fine model's order of the hardest candidates, and, where pictures are the fine model's
    summaries (``pool: summary``), regression onto its summary of the same text."""

    infonce: Annotated[float, Field(ge=0)] = 1.0
    triplet: Annotated[float, Field(ge=0)] = 1.0
    margin: Positive = 0.2
    distil: Annotated[float, Field(ge=0)] = 1.0
    regression: Annotated[float, Field(ge=0)] = 0.0

    @property
    def taught(self) -> bool:
        """Whether the fine model has a part in it."""
        return self.distil > 0 or self.regression > 0

    @property
    def compares(self) -> bool:
        """Whether texts are compared with pictures."""
        return self.infonce > 0 or self.triplet > 0 or self.distil > 0

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if not (self.compares or self.regression):
            raise ValueError("every weight is 0, and nothing would be learned; give one of them")
        return self


class CoarseSettings(Strict):
    """The two encoders of the first stage: ``space`` of the text's, pooled regions of the picture's, ``dim`` numbers.

    ``pool`` is how regions are pooled: by learned weights, or equal ones; or ``summary``, by the fine model itself, as
    it sums pictures up, in the ``dim`` directions in which those differ most.
    """

    space: TextSpec = TextSpec()
    dim: Whole = 128
    pool: Literal["weighted", "mean", "summary"] = "weighted"
    loss: CoarseLoss = CoarseLoss()
    supernet: SupernetPlan
    train: Plan

    @model_validator(mode="after")
    def _has_a_language(self) -> Self:
        if self.loss.regression and self.pool != "summary":
            raise ValueError(
                f"loss.regression is onto the fine model's summaries; set pool to summary, not {self.pool}"
            )
        return self
