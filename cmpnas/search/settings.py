"""The ``search`` section of a recipe: who proposes, how many, judged how, under what limit."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cmpnas.cost.budget import Budget
from cmpnas.retrieval.metrics import get_metric
from cmpnas.search.controllers import find_controller
from cmpnas.search.records import Reward
from cmpnas.strict import Strict

PositiveInt = Annotated[int, Field(gt=0)]


def metric_name(name: str) -> str:
    """``name``, if there is a metric of it."""
    get_metric(name)
    return name


class ControllerSettings(Strict):
    """Who proposes, how many, under what limit.

    ``known``: architectures, each as in an export's ``arch.json``, that are evaluated first and count among ``trials``.
    """

    controller: str = "predictor"
    known: tuple[dict[str, Any], ...] = ()
    trials: PositiveInt = 200
    population: Annotated[int, Field(ge=4)] = 40
    budget_mflops: float | None = None
    budget_params_m: float | None = None
    budget_latency_ms: float | None = None

    @field_validator("controller")
    @classmethod
    def _controller_exists(cls, value: str) -> str:
        find_controller(value)
        return value

    @field_validator("budget_mflops")
    @classmethod
    def _mflops_are_positive(cls, value: float | None) -> float | None:
        return Budget(mflops=value).mflops

    @field_validator("budget_params_m")
    @classmethod
    def _params_are_positive(cls, value: float | None) -> float | None:
        return Budget(params_m=value).params_m

    @field_validator("budget_latency_ms")
    @classmethod
    def _milliseconds_are_positive(cls, value: float | None) -> float | None:
        return Budget(latency_ms=value).latency_ms

    @model_validator(mode="after")
    def _known_ones_are_evaluated(self) -> Self:
        if len(self.known) > self.trials:
            raise ValueError(f"known: {len(self.known)} architectures, of {self.trials} trials; use as many or more")
        return self

    @property
    def budget(self) -> Budget:
        """The limit on every architecture."""
        return Budget(self.budget_mflops, self.budget_params_m, self.budget_latency_ms)


class SearchSettings(ControllerSettings):
    """The search: who proposes, how many, judged how, under what limit.

    ``reward``: M(q, q), M(q, g) or their product is what the controller shall raise, against the anchor; the front is
    of M(q, g) always. ``latency_table``: a file of `cmpnas measure`, or one measured elsewhere; where
    ``budget_latency_ms`` is given, latency is what the controller lowers and what the front is over, instead of MFLOPs.
    ``indexed_per_query``: gallery images that are indexed for each query served; what a pair costs in all is its
    query's multiply-adds and so many times those of indexing an image. ``keep_mb``: how much of the run folder may hold
    query embeddings, for gallery options that are added later.
    ``batch``: how many architectures are proposed before the first of them must be scored, so how many workers can be
    busy; by default as many as make no difference to the controller, which is a generation or one.
    ``homogeneous``: M(q, q), for which each architecture embeds the search gallery too, is computed of all, or of the
    ``front`` alone, once that is known; all others then embed queries only.
    ``racing``: the share of the queries after which what can no longer enter the front is not evaluated further
    (`cmpnas.search.race`); by default everything is evaluated to the end.
    """

    batch: PositiveInt | None = None
    homogeneous: Literal["all", "front"] = "all"
    racing: Annotated[float, Field(gt=0, lt=1)] | None = None
    metric: str = "map@r"
    reward: Reward = "r2"
    calibration_images: Annotated[int, Field(ge=2)] = 512
    latency_table: str | None = None
    indexed_per_query: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    keep_mb: PositiveInt = 1024

    _metric_exists = field_validator("metric")(metric_name)

    @model_validator(mode="after")
    def _race_is_for_the_front(self) -> SearchSettings:
        if self.racing is not None and self.reward != "r2":
            raise ValueError(f"racing is by M(q, g), the reward is {self.reward}; use r2, or no racing")
        return self

    @model_validator(mode="after")
    def _reward_is_known(self) -> SearchSettings:
        if self.homogeneous == "front" and self.reward != "r2":
            raise ValueError(f"the reward {self.reward} needs M(q, q) of all; use homogeneous: all, or r2")
        return self

    @model_validator(mode="after")
    def _budget_can_be_kept(self) -> SearchSettings:
        if self.budget_latency_ms is not None and self.latency_table is None:
            raise ValueError("budget_latency_ms needs a latency_table; make one with: cmpnas measure SPACE --out FILE")
        _ = self.budget
        return self


class TextSearchSettings(ControllerSettings):
    """The search of a text recipe: ``budget_mflops`` is of a whole query, candidates included.

    An encoder is judged with each number of candidates in ``ks``. The number that a run works with is planned once the
    encoder is finished: the smallest expected to stay no more than ``within`` below what both models find in the whole
    gallery, and to take no more than ``budget_latency_ms``, of which one thread counts. (A quarter of a point, so that
    half a point holds on other queries.) ``queries`` limits how many captions of a split ask, spread over all: the fine
    model looks at the whole gallery for each.
    """

    ks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (5, 10, 20, 50, 100)
    within: Annotated[float, Field(ge=0, lt=1)] = 0.0025
    queries: PositiveInt | None = None

    @property
    def budget(self) -> Budget:
        """The limit that encoders are searched under; the plan keeps to MFLOPs and milliseconds of its own gallery."""
        return Budget(self.budget_mflops, self.budget_params_m)
