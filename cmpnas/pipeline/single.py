"""Gallery models that a run trains: the anchor, another option, a source of a fusion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cmpnas.distributed import agree
from cmpnas.gallery.settings import SingleSettings
from cmpnas.gallery.single import SingleGallery, load_single, train_single

if TYPE_CHECKING:
    from cmpnas.pipeline.stages import Stages


def single_gallery(stages: Stages, settings: SingleSettings, folder: Path, called: str) -> SingleGallery:
    """A model of one architecture, trained in ``folder`` if it is not there yet."""
    recipe, train = stages.recipe, stages.splits.train
    if agree(not (folder / "model.pt").exists()):
        stages.say(f"gallery: training {called} on {len(train):,} images")
        with stages.run.timed("gallery"):
            train_single(settings, train, recipe.data.size, folder, seed=recipe.seed, workers=recipe.workers)
    return load_single(settings, recipe.data.size, folder)
