"""The stages of a gallery of kind ``fusion``: sources, their bank, the mixer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cmpnas.data.items import union
from cmpnas.distributed import agree, first_alone
from cmpnas.files import hash_file, hash_of, read_json, write_json
from cmpnas.gallery.audition import hear
from cmpnas.gallery.bank import Bank
from cmpnas.gallery.fusion import FusionGallery, begin_mixing, fill_bank, load_fusion, save_mixing, save_whitened
from cmpnas.gallery.settings import (
    FusionSettings,
    LocalSettings,
    PrecomputedSettings,
    SingleSettings,
    WhiteningMixerSettings,
)
from cmpnas.gallery.sources import FeatureSource, of_brought, of_saved, of_single
from cmpnas.pipeline.lessons import Lessons
from cmpnas.pipeline.single import lacks_model, single_gallery
from cmpnas.train.mixing import train_mixer

if TYPE_CHECKING:
    from cmpnas.pipeline.stages import Stages


def fusion_gallery(stages: Stages, settings: FusionSettings) -> FusionGallery:
    """The gallery option, trained if it is not there yet; where it is trained jointly, the supernet is too."""
    run, seed = stages.run, stages.recipe.seed
    bank, path = _bank(stages, settings, stages.sources), run.gallery / "model.pt"
    sources = _that_say_something(stages, bank)
    bank = bank.only(name for source in sources for name in source.names)
    if settings.joint and agree(not (path.exists() and run.supernet.exists())):
        start, mixing = begin_mixing(settings, bank, stages.splits.pool, stages.splits.train, seed)

        def keep() -> None:
            (run.gallery / "key.json").unlink(missing_ok=True)  # what another mixer embedded is no longer good
            save_mixing(mixing, path)

        stages.train_supernet(Lessons(stages.splits.pool, start), mixing, keep)
    elif settings.train is not None and lacks_model(run.gallery):
        train, saved = stages.splits.train, run.gallery / f"checkpoint.{stages.gallery_key}.pt"
        stages.say(f"gallery: training mixer {settings.name!r} on {len(train):,} images")
        with run.timed("gallery"):
            _, mixing = begin_mixing(settings, bank, train, train, seed)
            train_mixer(f"gallery {settings.name}", mixing, len(train), settings.train, seed=seed, saved=saved)
        with first_alone() as first:
            if first:
                save_mixing(mixing, path)
                saved.unlink()
    elif isinstance(settings.mixer, WhiteningMixerSettings) and lacks_model(run.gallery):
        stages.say(f"gallery: a whitening of {', '.join(bank.names)} on {len(stages.splits.train):,} images")
        with first_alone() as first, run.timed("gallery"):
            if first:
                save_whitened(settings, bank, stages.splits.train, path)
    return load_fusion(settings, sources, bank, path)


def open_sources(stages: Stages, settings: FusionSettings) -> list[FeatureSource]:
    """All sources, in their order; a model that is to be trained here is, if it is not there yet."""
    recipe, found = stages.recipe, []
    for source in settings.sources:
        local = settings.local.get(source.name)
        if isinstance(source, PrecomputedSettings):
            found.append(of_saved(source, recipe.data, stages.data, stages.splits.total))
        elif isinstance(source, SingleSettings):
            found.append(_trained(stages, source, local))
        else:
            found.append(of_brought(source, local, recipe.data, stages.data))
    return found


def fusion_key(stages: Stages, settings: FusionSettings) -> str:
    """Key of everything that the mixer is made of; joint training makes the query's side a part of it."""
    made_of = [source.key for source in stages.sources]
    return hash_of(made_of, *(stages.query_side if settings.joint else ()))


def _that_say_something(stages: Stages, bank: Bank) -> list[FeatureSource]:
    """The sources less those that are silent; what was heard of each is kept."""
    kept = stages.run.gallery / "heard.json"
    with first_alone() as first:
        if first and not kept.exists():
            found = hear(bank, [source.name for source in stages.sources], stages.splits.train)
            for heard in found:
                if heard.silent:
                    stages.say(f"gallery: left out, as it tells no classes apart: {heard}")
            kept.parent.mkdir(parents=True, exist_ok=True)  # the bank may be elsewhere
            write_json(kept, [asdict(heard) | {"silent": heard.silent} for heard in found])
    silent = {heard["source"] for heard in read_json(kept) if heard["silent"]}
    return [source for source in stages.sources if source.name not in silent]


def _trained(stages: Stages, source: SingleSettings, local: LocalSettings | None) -> FeatureSource:
    """A source that is trained here, if it is not there yet."""
    folder = stages.run.gallery / source.name
    option = single_gallery(stages, source, folder, f"source {source.name!r}")
    return of_single(option, local, hash_file(folder / "model.pt") or "")


def _bank(stages: Stages, settings: FusionSettings, sources: list[FeatureSource]) -> Bank:
    """Features of all pictures but those of the test, each source's computed once."""
    splits = stages.splits
    folder = stages.run.gallery / "bank" if settings.bank is None else Path(settings.bank)
    items = union([splits.train, splits.pool, splits.search.query, splits.search.gallery])
    with first_alone(), stages.run.timed("features"):  # the others find nothing left to do
        return fill_bank(folder, sources, items, splits.fingerprint, stages.say)
