"""The stages of a text run, each computed on first use, kept in the run folder and reused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cmpnas.cost import Budget
from cmpnas.cost.onnx import hash_onnx
from cmpnas.data.images import in_memory
from cmpnas.data.load import data_file
from cmpnas.distributed import world_size
from cmpnas.errors import RecipeError
from cmpnas.files import hash_of, whole
from cmpnas.models.supernet import Supernet
from cmpnas.pipeline.once import once
from cmpnas.pipeline.stages import Say
from cmpnas.recipe import TextRecipe
from cmpnas.run import TextRunFolder
from cmpnas.space import SearchSpace, load_space
from cmpnas.text.captions import Captioned, CaptionedSplits, load_captioned
from cmpnas.text.coarse import PicturePool, RegionPool, SummaryPool
from cmpnas.text.fine import FineModel
from cmpnas.text.karpathy import load_karpathy
from cmpnas.text.regions import MapEncoder, Regioner, open_map, read_regions, save_regions
from cmpnas.text.settings import EncoderRegions, KarpathySettings, OnnxRegions
from cmpnas.text.tokeniser import Tokeniser
from cmpnas.text.train import CoarseTraining, Texts, train_fine
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.paths import paths_at

_ORIENTED_BY = 10_000  # pictures say what their main directions are
_SAMPLED = 64  # pictures by which a split is known


def must_be_alone() -> None:
    """Raise a `RecipeError` under torchrun."""
    if world_size() > 1:
        raise RecipeError("text recipes train in one process; start this command without torchrun.")


def load_text_splits(recipe: TextRecipe, data: str | None) -> CaptionedSplits:
    """Captions and pictures of ``recipe``, whatever reads them."""
    if isinstance(recipe.data, KarpathySettings):
        return load_karpathy(recipe.data, data)
    return load_captioned(recipe.data, recipe.captions, data)


@dataclass
class TextStages:
    """The stages of one text run, each computed on first use and kept in the run folder."""

    run: TextRunFolder
    splits: CaptionedSplits
    data: str | None
    say: Say

    @staticmethod
    def of_run(path: Path, data: str | None, say: Say) -> TextStages:
        """The stages of a run that exists.

        Raises:
            CmpnasError: ``path`` is no text run, or the data are not those it was made from.
        """
        must_be_alone()
        run = TextRunFolder.open(path)
        splits = load_text_splits(run.recipe, data)
        run.must_be_of(splits.fingerprint, "name the right folder with --data")
        return TextStages(run, splits, data, say)

    @property
    def recipe(self) -> TextRecipe:
        return self.run.recipe

    @cached_property
    def space(self) -> SearchSpace:
        """Of coarse text encoders."""
        return self.recipe.space()

    # Keys: what each artefact was made of

    @cached_property
    def regions_key(self) -> str:
        """Of what decides the regions, short of training."""
        settings, made_of = self.recipe.regions, None
        if isinstance(settings, OnnxRegions):
            made_of = hash_onnx(self._onnx_file)
        elif isinstance(settings, EncoderRegions):
            made_of = load_space(settings.space, size=self.recipe.data.size).fingerprint  # type: ignore[union-attr]
        return hash_of(settings.model_dump(mode="json"), made_of, self.splits.fingerprint)

    @cached_property
    def fine_key(self) -> str:
        """Of the fine model, and the image encoder that is trained with it."""
        recipe = self.recipe
        made_of = [part.model_dump(mode="json") for part in (recipe.fine, recipe.captions)]
        return hash_of(self.regions_key, made_of, recipe.seed)

    @cached_property
    def supernet_key(self) -> str:
        """Of the coarse supernet; how picks are finished is no part of it."""
        recipe = self.recipe
        made_of = recipe.coarse.model_dump(mode="json", exclude={"train"})
        return hash_of(self.fine_key, made_of, self.space.fingerprint, recipe.seed)

    @cached_property
    def scores_key(self) -> str:
        """Of what scores encoders: the supernet, what it is asked, and the odds that a cascade is judged by."""
        return hash_of(self.supernet_key, self.split_key("search"), "odds")

    def split_key(self, split: str) -> str:
        """Of some pictures of one split, or of the features that came for them."""
        pairs = self.pairs(split)
        some = np.linspace(0, len(pairs) - 1, min(_SAMPLED, len(pairs))).astype(int)
        seen = pairs.items.images.read(some).numpy() if pairs.regions is None else pairs.regions[some]  # type: ignore[union-attr]
        return hashlib.sha256(np.ascontiguousarray(seen).tobytes()).hexdigest()[:12]

    @property
    def _onnx_file(self) -> Path:
        return data_file(self.recipe.data, self.data, self.recipe.regions.file)  # type: ignore[arg-type, union-attr]

    # Text

    @cached_property
    def tokeniser(self) -> Tokeniser:
        """Learned from the training captions, as large as any encoder of the recipe asks for."""
        path, recipe = self.run.tokeniser, self.recipe
        if not path.exists():
            vocabulary = max(*recipe.coarse.space.vocabulary, *recipe.fine.text.vocabulary)
            made = Tokeniser.train(self.splits.train.captions, vocabulary, recipe.captions.max_tokens)
            with whole(path) as partial:
                made.save(partial)
            if cut := made.cut(self.splits.train.captions):
                self.say(f"captions: {cut} of {len(self.splits.train.captions)} are cut to {made.max_tokens} tokens")
        return Tokeniser.load(path)

    @cached_property
    def texts(self) -> Texts:
        """The training captions as numbers."""
        return Texts(self.tokeniser, self.splits.train.captions)

    # Regions and the fine model

    @cached_property
    def fine(self) -> FineModel:
        """The fine model, trained if it is not there yet."""
        return self._trained[0]

    @cached_property
    def _trained(self) -> tuple[FineModel, MapEncoder | None]:
        path, settings = self.run.fine, self.recipe.regions
        torch.manual_seed(self.recipe.seed)
        encoder, channels = None, 0
        if isinstance(settings, EncoderRegions):
            encoder = MapEncoder(settings, self.recipe.data.size)  # type: ignore[union-attr]
            channels = encoder.channels
        else:
            channels = self.regions("train").shape[2]
        fine = FineModel(self.recipe.fine, self.tokeniser.max_tokens, channels)
        if not path.exists():
            with torch.random.fork_rng():  # what is begun next begins alike where this is trained already
                self._train_fine(fine, encoder, path)
        state = checkpoint.load_of(self.fine_key, path)
        checkpoint.restore(fine, state, "fine", path, "this recipe's fine model")
        if encoder is not None:
            checkpoint.restore(encoder, state, "encoder", path, "this recipe's image encoder")
            encoder.to(device()).eval()
        return fine.to(device()).eval(), encoder

    def _train_fine(self, fine: FineModel, encoder: MapEncoder | None, path: Path) -> None:
        recipe, saved, pairs = self.recipe, path.with_name(f"fine.checkpoint.{self.fine_key}.pt"), self.splits.train
        if encoder is not None and pairs.items is not None:
            images = in_memory(pairs.items.images, recipe.data.size)  # type: ignore[union-attr]
            pairs = replace(pairs, items=replace(pairs.items, images=images))
        self.say(f"fine: training on {len(self.splits.train):,} pictures")
        with self.run.timed("fine"):
            train_fine(
                fine, encoder, pairs, self.texts, recipe.fine,
                recipe.regions if isinstance(recipe.regions, EncoderRegions) else None,
                None if encoder is not None else self.regions("train"),
                drop=recipe.captions.drop, seed=recipe.seed, saved=saved, workers=recipe.workers,
            )  # fmt: skip
            state = {"key": self.fine_key, "fine": fine.state_dict()}
            checkpoint.save(state if encoder is None else state | {"encoder": encoder.state_dict()}, path)
            saved.unlink()

    def regions(self, split: str) -> np.ndarray:
        """Regions of the pictures of ``split`` (train, search, test), computed once: ``(N, R, C)`` on disk."""
        pairs = self.pairs(split)
        if pairs.regions is not None:
            return pairs.regions

        def make() -> None:
            self.say(f"regions: of {len(pairs):,} pictures ({split})")
            with self.run.timed(f"regions {split}"):
                save_regions(self._regioner, pairs.items, self.run.regions(split))  # type: ignore[arg-type]

        trained = isinstance(self.recipe.regions, EncoderRegions)
        key = hash_of(self.fine_key if trained else self.regions_key, self.split_key(split))
        return once(self.run.regions(split), key, make)

    def pairs(self, split: str) -> Captioned:
        """The pictures of one split, and the captions that ask for them or that they are trained with."""
        found: Captioned = getattr(self.splits, split)
        return found if split == "train" else found.asking(self.recipe.search.queries)

    @cached_property
    def _regioner(self) -> Regioner:
        settings = self.recipe.regions
        if isinstance(settings, OnnxRegions):
            return open_map(settings, self._onnx_file, self.recipe.data.size)  # type: ignore[union-attr]
        return self._trained[1]  # type: ignore[return-value]

    # The coarse model

    def training(self) -> CoarseTraining:
        """What coarse encoders learn by."""
        recipe, loss = self.recipe, self.recipe.coarse.loss
        return CoarseTraining(
            self.splits.train, self.texts, self.regions("train"), loss, self.fine if loss.taught else None,
            fine_vocabulary=max(recipe.fine.text.vocabulary), candidates=recipe.fine.negatives,
            drop=recipe.captions.drop, seed=recipe.seed,
        )  # fmt: skip

    def fresh_pool(self) -> PicturePool:
        """Untrained pooling of regions, the same for the same seed."""
        settings = self.recipe.coarse
        if settings.pool == "summary":
            return SummaryPool(settings, self.fine)
        torch.manual_seed(self.recipe.seed)
        return RegionPool(settings, self.regions("train").shape[2])

    @cached_property
    def supernet(self) -> tuple[Supernet, PicturePool]:
        """The trained supernet of text encoders, and the pooling of regions that they share."""
        recipe, path = self.recipe, self.run.supernet
        pool = self.fresh_pool()
        supernet = Supernet(self.space)
        if not path.exists():
            plan, saved = recipe.coarse.supernet, self.run.supernet_checkpoint(self.supernet_key)
            self.say(f"coarse: training a supernet of {self.space.count():,} text encoders")
            with self.run.timed("supernet"):
                if isinstance(pool, SummaryPool):
                    pool.orient(self._summaries(pool.to(device())))
                paths = paths_at(
                    self.space, Budget(params_m=recipe.search.budget_params_m), plan.sampling,
                    steps=plan.steps(len(self.splits.train)), paths=plan.paths, seed=recipe.seed,
                )  # fmt: skip
                self.training().supernet(supernet, pool, paths, plan, saved)
                state = {"key": self.supernet_key, "shared": supernet.state_dict(), "pool": pool.state_dict()}
                checkpoint.save(state, path)
                saved.unlink()
        state = checkpoint.load_of(self.supernet_key, path)
        checkpoint.restore(supernet, state, "shared", path, "this recipe's space")
        checkpoint.restore(pool, state, "pool", path, "this recipe's pooling")
        return supernet.to(device()).eval(), pool.to(device()).eval()

    def vectors(self, pool: nn.Module, split: str) -> np.ndarray:
        """Unit vectors of the pictures of ``split``: float32 ``(N, D)``."""
        rows = self.regions(split)
        return self._seen(pool, rows, np.arange(len(rows))).numpy()

    def _summaries(self, pool: SummaryPool) -> Tensor:
        """What the fine model says of training pictures, of some thousands where there are more."""
        rows = self.regions("train")
        some = np.linspace(0, len(rows) - 1, min(len(rows), _ORIENTED_BY)).astype(int)
        return self._seen(pool.summaries, rows, some)

    @torch.inference_mode()
    def _seen(self, how: Callable[[Tensor], Tensor], rows: np.ndarray, which: np.ndarray) -> Tensor:
        parts = (read_regions(rows, which[first : first + 256]) for first in range(0, len(which), 256))
        return torch.cat([how(part.to(device())).cpu() for part in parts])
