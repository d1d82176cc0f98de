"""The gallery models of a recipe: its ``gallery``, and what ``galleries`` maps into that one's space."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from cmpnas.compat.weights import LossWeights
from cmpnas.data.augment import Augment
from cmpnas.errors import unknown
from cmpnas.gallery.local import Choice
from cmpnas.strict import Strict
from cmpnas.train.loop import Plan

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Unit = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]


#: An architecture of a space: one of its ends, or its choices.
AnArch = Annotated[
    Annotated[Literal["smallest", "largest"], Tag("(end)")] | Annotated[dict[str, int | float | str], Tag("(choices)")],
    Discriminator(lambda arch: "(choices)" if isinstance(arch, dict) else "(end)"),
]


class MarginSettings(Strict):
    """The angular-margin softmax of a gallery model."""

    kind: Literal["arcface", "cosface"] = "arcface"
    margin: Annotated[float, Field(ge=0, lt=1.5)] = 0.15
    scale: Annotated[float, Field(gt=0)] = 32.0


class TransformSettings(Strict):
    """How the embeddings of a gallery option are mapped into the anchor's space.

    ``kind`` is one of `cmpnas.gallery.transform.KINDS`. ``loss`` maps names of losses to weights; it is taught by the
    pictures that query networks learn from (``data.pool``), on embeddings that are computed once. Transforms of one
    model that differ in ``seed`` are different members of an ensemble.
    """

    kind: Literal["linear", "parallel", "wide", "sequential"] = "parallel"
    loss: LossWeights = {"regression": 10.0, "shared_head": 1.0}
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    train: Plan


class _ModelSettings(Strict):
    """One gallery model: the anchor, which has no ``transform``, or one of ``galleries``, which has."""

    name: Name
    transform: TransformSettings | None = None


class SingleSettings(_ModelSettings):
    """A gallery model trained here: one architecture of a space."""

    kind: Literal["single"]
    space: str
    arch: AnArch = "largest"
    embedding_dim: Annotated[int, Field(gt=1)] = 128
    head: MarginSettings = MarginSettings()
    augment: Augment = Augment()
    train: Plan


class PrecomputedSettings(_ModelSettings):
    """Saved embeddings: an npz with ``embeddings`` ``(N, D)``, row ``i`` for item ``i`` of the data set,
    and optionally ``classifier`` ``(K, D)`` in the order of the sorted training labels.

    ``mflops`` is what the model that made them costs an image: a cost is stated, never guessed.
    """

    kind: Literal["precomputed"]
    file: str
    mflops: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    head: MarginSettings = MarginSettings()


class _Projection(Strict):
    """A linear layer to ``dim`` numbers on top of frozen features, made of the labelled training split.

    The features are computed once, of pictures as they are.
    """

    dim: Annotated[int, Field(gt=1)]
    head: MarginSettings = MarginSettings()


class SoftmaxProjection(_Projection):
    """Trained with the angular-margin softmax ``head``."""

    kind: Literal["softmax"]
    train: Plan


class WhiteningProjection(_Projection):
    """What varies within a class is whitened, its covariance shrunk by ``shrinkage``: closed form, no training."""

    kind: Literal["whitening"]
    shrinkage: Annotated[float, Field(gt=0, le=1)] = 0.5


AnyProjection = Annotated[SoftmaxProjection | WhiteningProjection, Field(discriminator="kind")]


class BroughtSettings(_ModelSettings):
    """A finished model that the user brings.

    ``size`` is the side of the pictures that it takes: by default what the file says, else the recipe's ``data.size``.
    ``mean`` and ``std`` of red, green and blue in 0..1 are those it was trained with: by default what timm says, else
    one half, which leaves pictures in [-1, 1]. ``mflops`` is needed where it cannot be counted. ``head`` is what losses
    know of its classifier, by default the projection's.
    """

    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    mean: tuple[Unit, Unit, Unit] | None = None
    std: tuple[Spread, Spread, Spread] | None = None
    mflops: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    projection: AnyProjection | None = None
    head: MarginSettings = MarginSettings()

    @model_validator(mode="before")
    @classmethod
    def _head_of_the_projection(cls, content: Any) -> Any:
        projection = content.get("projection") if isinstance(content, dict) else None
        if isinstance(projection, dict) and "head" in projection:
            return {"head": projection["head"]} | content
        return content


class FileSettings(BroughtSettings):
    """A model in a file, absolute or below the data folder."""

    file: Annotated[str, Field(min_length=1)]


class OnnxSettings(FileSettings):
    """An ONNX file; ``output`` names one of its outputs, by default the first."""

    kind: Literal["onnx"]
    output: str | None = None


class TorchscriptSettings(FileSettings):
    """A TorchScript file."""

    kind: Literal["torchscript"]


class TimmSettings(BroughtSettings):
    """A pretrained model of timm by name."""

    kind: Literal["timm"]
    model: str


class TransformerSettings(Strict):
    """A learnable token that attends to all features (`cmpnas.models.mixer.TransformerMixer`)."""

    kind: Literal["transformer"] = "transformer"
    layers: Annotated[int, Field(ge=1)] = 2
    heads: Annotated[int, Field(ge=1)] = 4
    expansion: Annotated[int, Field(ge=1)] = 2


class BaselineMixerSettings(Strict):
    """A hidden layer over all features side by side, or one linear map of them."""

    kind: Literal["mlp", "concat"]


class WhiteningMixerSettings(Strict):
    """All features side by side, in which what varies within a class is whitened: closed form, no training."""

    kind: Literal["whitening"]
    shrinkage: Annotated[float, Field(gt=0, le=1)] = 0.5


class LocalSettings(Strict):
    """Local features of a source: ``tokens`` vectors of each picture, from a feature map.

    ``by`` says which: the longest (``norm``), or means over a ``grid``. ``output`` names the map in an ONNX graph;
    of a model trained here it is the map before the pooling.
    """

    tokens: Annotated[int, Field(ge=1)]
    by: Choice = "norm"
    output: str | None = None

    @model_validator(mode="after")
    def _grids_are_square(self) -> Self:
        if self.by == "grid" and round(self.tokens**0.5) ** 2 != self.tokens:
            raise ValueError(f"a grid has a square number of tokens, such as 4 or 9; tokens is {self.tokens}")
        return self


AnyBrought = OnnxSettings | TorchscriptSettings | TimmSettings
Source = Annotated[SingleSettings | PrecomputedSettings | AnyBrought, Field(discriminator="kind")]


class FusionSettings(_ModelSettings):
    """Features of several frozen models mixed into one embedding (AFF, CVPR 2023).

    A ``precomputed`` source may be an npy of ``(N, W)`` global or ``(N, T, W)`` local features, row ``i`` for item
    ``i`` of the data set. ``local`` adds local features to sources by name. ``momentum`` is how much of the query's
    classifier stays in a step when mixer and query learn jointly; in two stages the mixer is trained first, by
    ``train``; a ``whitening`` is computed before anything learns. ``bank`` is the folder in which features are kept,
    by default in the run: another lets runs share them.
    """

    kind: Literal["fusion"]
    sources: tuple[Source, ...]
    local: dict[str, LocalSettings] = {}
    embedding_dim: Annotated[int, Field(gt=1)] = 128
    mixer: Annotated[
        TransformerSettings | BaselineMixerSettings | WhiteningMixerSettings, Field(discriminator="kind")
    ] = TransformerSettings()
    head: MarginSettings = MarginSettings()
    training: Literal["joint", "two_stage"] = "joint"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    train: Plan | None = None
    bank: str | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        names = [source.name for source in self.sources]
        if not names:
            raise ValueError("sources is empty; list one model or more")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are called {twice[0]!r}; give each a name of its own")
        kinds = {source.name: source for source in self.sources}
        for name, local in self.local.items():
            source = kinds.get(name)
            if source is None:
                raise ValueError("local: " + unknown("source", name, names))
            if not isinstance(source, SingleSettings | OnnxSettings):
                raise ValueError(
                    f"local features of {name!r} are within reach in kinds single and onnx, not {source.kind}; save "
                    "them as an npy (N, T, W) and bring it as a precomputed source"
                )
            if isinstance(source, OnnxSettings) != (local.output is not None):
                wanted = "must name" if isinstance(source, OnnxSettings) else "has no"
                raise ValueError(f"local: source {name!r} of kind {source.kind} {wanted} output")
        for source in self.sources:
            if source.transform is not None:
                raise ValueError(f"source {source.name!r} has a transform; leave it out, the mixer projects")
            if isinstance(source, BroughtSettings) and source.projection is not None:
                raise ValueError(f"source {source.name!r} has a projection; leave it out, the mixer projects")
        if isinstance(self.mixer, TransformerSettings) and self.embedding_dim % self.mixer.heads:
            raise ValueError(f"embedding_dim {self.embedding_dim} is not divisible by {self.mixer.heads} heads")
        if isinstance(self.mixer, WhiteningMixerSettings):
            if self.train is not None or self.training == "two_stage":
                raise ValueError("a whitening is computed, not trained; leave training and train out")
        elif (self.training == "two_stage") != (self.train is not None):
            raise ValueError(
                "two_stage training needs train, a plan for the mixer; jointly it learns by the plan of query.supernet"
            )
        return self

    @property
    def joint(self) -> bool:
        """Whether mixer and supernet learn together."""
        return self.training == "joint" and not isinstance(self.mixer, WhiteningMixerSettings)


AnyGallery = Annotated[SingleSettings | PrecomputedSettings | AnyBrought | FusionSettings, Field(discriminator="kind")]
