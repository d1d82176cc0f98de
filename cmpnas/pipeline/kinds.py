"""The kinds of galleries: what each is made of, and how a run opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cmpnas.data.load import data_file
from cmpnas.files import hash_file
from cmpnas.gallery.base import Gallery, classifier_of
from cmpnas.gallery.brought import as_it_is
from cmpnas.gallery.precomputed import load_precomputed
from cmpnas.gallery.projection import load_projected, make_projection
from cmpnas.gallery.settings import (
    AnyBrought,
    BroughtSettings,
    FusionSettings,
    PrecomputedSettings,
    SingleSettings,
    WhiteningProjection,
)
from cmpnas.gallery.single import plan_single
from cmpnas.gallery.whitening import must_whiten
from cmpnas.pipeline.fusion import fusion_gallery, fusion_key
from cmpnas.pipeline.single import lacks_model, single_gallery

if TYPE_CHECKING:
    from cmpnas.pipeline.stages import Stages


def made_of(stages: Stages) -> str | None:
    """Key of what the gallery option is made of beside its settings, the data and the seed."""
    recipe, settings = stages.recipe, stages.recipe.gallery
    if isinstance(settings, SingleSettings):
        return plan_single(settings, recipe.data.size)[0].fingerprint
    if isinstance(settings, PrecomputedSettings):
        return hash_file(data_file(recipe.data, stages.data, settings.file))
    if isinstance(settings, FusionSettings):
        return fusion_key(stages, settings)
    return stages.brought.fingerprint


def check_gallery(stages: Stages) -> None:
    """Raise what can be known to be wrong of the gallery option before the run has a folder.

    Raises:
        CmpnasError: a model cannot be opened, a projection of it cannot be made, or a classifier is of other classes.
    """
    settings, (classes, codes) = stages.recipe.gallery, np.unique(stages.splits.train.labels, return_inverse=True)
    if isinstance(settings, PrecomputedSettings):
        if stages.gallery.classifier is not None:
            classifier_of(stages.gallery, classes)
    elif isinstance(settings, BroughtSettings):
        width, plan = stages.brought.width, settings.projection
        if isinstance(plan, WhiteningProjection):
            must_whiten(width, codes, plan.dim)


def open_gallery(stages: Stages) -> Gallery:
    """The gallery option, trained if it is not there yet."""
    recipe, settings = stages.recipe, stages.recipe.gallery
    if isinstance(settings, SingleSettings):
        return single_gallery(stages, settings, stages.run.gallery, repr(settings.name))
    if isinstance(settings, PrecomputedSettings):
        return load_precomputed(settings, data_file(recipe.data, stages.data, settings.file), stages.splits.total)
    if isinstance(settings, FusionSettings):
        return fusion_gallery(stages, settings)
    return _brought(stages, settings)


def _brought(stages: Stages, settings: AnyBrought) -> Gallery:
    """The user's model, with its projection if it is to have one, made if it is not there yet."""
    plan, folder, train = settings.projection, stages.run.gallery, stages.splits.train
    if plan is None:
        return as_it_is(settings, stages.brought)
    if lacks_model(folder):
        stages.say(f"gallery: a projection of {settings.name!r} on {len(train):,} images")
        with stages.run.timed("gallery"):
            make_projection(settings, plan, stages.brought, train, folder, seed=stages.recipe.seed)
    return load_projected(settings, plan, stages.brought, folder)
