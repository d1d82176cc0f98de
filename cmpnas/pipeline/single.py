"""Gallery models that a run trains: the anchor, another option, a source of a fusion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cmpnas.distributed import agree
from cmpnas.errors import RunError
from cmpnas.gallery.settings import SingleSettings
from cmpnas.gallery.single import SingleGallery, load_single, train_single

if TYPE_CHECKING:
    from cmpnas.pipeline.stages import Stages


def single_gallery(stages: Stages, settings: SingleSettings, folder: Path, called: str) -> SingleGallery:
    """A model of one architecture, trained in ``folder`` if it is not there yet."""
    recipe, train = stages.recipe, stages.splits.train
    key = stages.of(settings).gallery_key
    if lacks_model(folder):
        stages.say(f"gallery: training {called} on {len(train):,} images")
        with stages.run.timed("gallery"):
            train_single(settings, train, recipe.data.size, folder, key, seed=recipe.seed, workers=recipe.workers)
    return load_single(settings, recipe.data.size, folder, key)


def lacks_model(folder: Path) -> bool:
    """Whether a gallery model is still to be made in ``folder``.

    Raises:
        RunError: it was made and is gone, and embeddings of it are there: those of another one would not fit them.
    """
    if agree((folder / "model.pt").exists()):
        return False
    if agree((folder / "key.json").exists()):
        raise RunError(
            f"{folder / 'model.pt'} is gone, with which the run was made; put it back, or name another --run."
        )
    return True
