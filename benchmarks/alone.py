"""The first encoder of a recipe whose gallery whitens several side by side, as a gallery of its own."""

from __future__ import annotations

from cmpnas.gallery.settings import FusionSettings, OnnxSettings, WhiteningMixerSettings, WhiteningProjection
from cmpnas.recipe import Recipe


def first_alone(recipe: Recipe) -> OnnxSettings:
    """That encoder, whitened to as many numbers with the same shrinkage."""
    gallery = recipe.gallery
    assert isinstance(gallery, FusionSettings)
    first, mixer = gallery.sources[0], gallery.mixer
    assert isinstance(first, OnnxSettings)
    assert isinstance(mixer, WhiteningMixerSettings)
    plan = WhiteningProjection(kind="whitening", dim=gallery.embedding_dim, shrinkage=mixer.shrinkage)
    return first.model_copy(update={"projection": plan})
