"""Finishing a coarse encoder of the front, and planning how many candidates a run looks at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cmpnas.errors import RunError
from cmpnas.export.cascade import FineSession, TextSession, write_text
from cmpnas.files import hash_of, read_json, whole, write_json, write_npy
from cmpnas.models.network import Network, build_network
from cmpnas.pipeline.crisp.fine import fine_session, fine_table
from cmpnas.pipeline.crisp.search import QueryCosts, relevant
from cmpnas.pipeline.crisp.stages import TextStages
from cmpnas.pipeline.crisp.times import Parts, asked, milliseconds, one_thread
from cmpnas.pipeline.once import once
from cmpnas.pipeline.stages import Say
from cmpnas.retrieval.cascade import Cascade, Encoded
from cmpnas.retrieval.index import GalleryIndex
from cmpnas.retrieval.planner import Measured, plan, scan_hits
from cmpnas.run import TextRunFolder
from cmpnas.search.front import pick
from cmpnas.space import Arch
from cmpnas.text.coarse import PicturePool
from cmpnas.text.train import vocabulary_of
from cmpnas.train import checkpoint
from cmpnas.train.device import device, keep_freed_memory

_DEEPEST = 400  # candidates that a plan may ask for on the search split


def train_text_pick(path: Path, which: str, *, data: str | None = None, say: Say = print) -> dict[str, Any]:
    """Train one encoder of the front and its pooling of regions, and plan its cascade.

    Continues from a checkpoint; what is trained already is left as it is.

    Returns:
        ``{"id", "mflops", "plan", "coarse_hit@1"}`` of the search split.

    Raises:
        CmpnasError: there is no such run or pick, or no number of candidates meets the limit of time.
    """
    run = TextRunFolder.open(path)
    chosen = pick(run.read_front(), which)
    stages = TextStages.of_run(path, data, say)
    arch = stages.space.from_json(chosen["query"]["arch"])
    with run.locked():
        network, pool = finish(stages, arch)
        found = make_plan(stages, arch, network, pool)
        content = {"key": weights_key(stages, arch), "arch": arch.to_json(), "plan": found}
        write_json(run.path / "picked.json", content)
    return {"id": arch.id, "mflops": chosen["query"]["encoder_mflops"], "split": "search", **found}


def finish(stages: TextStages, arch: Arch) -> tuple[Network, PicturePool]:
    """Train ``arch`` from the supernet's weights, or find it trained: both in eval mode."""
    folder, key = stages.run.trained(arch.id), weights_key(stages, arch)
    path, saved = folder / "network.pt", folder / f"checkpoint.{key}.pt"
    if not path.exists():
        stages.say(f"coarse: training {arch.id} ({stages.space.cost(arch).mflops:.3f} MFLOPs)")
        with stages.run.timed(f"train {arch.id}"):
            supernet, shared = stages.supernet
            network, pool = supernet.carve(arch), stages.fresh_pool()
            pool.load_state_dict(shared.state_dict())
            stages.training().network(network, arch, pool, stages.recipe.coarse.train, saved)
        checkpoint.save({"key": key, "network": network.state_dict(), "pool": pool.state_dict()}, path)
        saved.unlink()
    state = checkpoint.load_of(key, path, checkpoint.FINISHED)
    network, pool = build_network(stages.space, arch), stages.fresh_pool()
    checkpoint.restore(network, state, "network", path, arch.id)
    checkpoint.restore(pool, state, "pool", path, "this recipe's pooling")
    return network.to(device()).eval(), pool.to(device()).eval()


def weights_key(stages: TextStages, arch: Arch) -> str:
    """Of everything that the weights of a finished encoder depend on."""
    how = stages.recipe.model_dump(mode="json", include={"coarse": {"train"}})
    return hash_of(stages.supernet_key, how, arch.to_json())


@dataclass(frozen=True)
class Searcher:
    """Both stages over the pictures of one split, ready to be asked."""

    encoder: TextSession
    vectors: np.ndarray
    index: GalleryIndex
    fine: FineSession

    @staticmethod
    def over(stages: TextStages, split: str, arch: Arch, network: nn.Module, pool: PicturePool) -> Searcher:
        """Over the pictures of ``split``, whose vectors are computed once."""
        keep_freed_memory()
        path = stages.run.trained(arch.id) / f"query.{weights_key(stages, arch)}.onnx"
        if not path.exists():
            with whole(path) as partial:
                write_text(network, stages.tokeniser.max_tokens, partial)
        encoder = TextSession.open(path, stages.tokeniser.limited(vocabulary_of(arch)))
        vectors = indexed(stages, split, arch, pool)
        return Searcher(encoder, vectors, GalleryIndex.build(vectors), fine_session(stages, split))

    def table(self, captions: Sequence[str]) -> np.ndarray:
        """Coarse scores of texts and all pictures: float32 ``(Q, N)``."""
        return self.encoder(captions) @ self.vectors.T

    def cascade(self, k: int, weight: float) -> Cascade[list[str]]:
        """Both stages together."""
        return Cascade(Encoded(self.encoder, self.index), self.fine, k, weight=weight)

    def parts(self, captions: Sequence[str]) -> Parts:
        """What is timed, on some of ``captions``."""
        return Parts(self.encoder, self.index, self.fine, asked(captions))


def indexed(stages: TextStages, split: str, arch: Arch, pool: PicturePool) -> np.ndarray:
    """Unit vectors of the pictures of ``split`` by the pooling that was finished with ``arch``: float32 ``(N, D)``."""
    path = stages.run.index / f"{split}.{arch.id}.npy"
    key = hash_of(weights_key(stages, arch), stages.split_key(split))
    return once(path, key, lambda: write_npy(path, stages.vectors(pool, split)))


def make_plan(stages: TextStages, arch: Arch, network: nn.Module, pool: PicturePool) -> dict[str, Any]:
    """Measure the search split and plan for its gallery: the times, the coarse model's own hits, the plan."""
    searcher, settings = Searcher.over(stages, "search", arch, network, pool), stages.recipe.search
    parts = searcher.parts(stages.pairs("search").captions)
    with one_thread():
        times = parts.times(milliseconds(parts.works()))
    measured, alone = search_hits(stages, searcher)
    most = QueryCosts.of(stages, measured.n).most(stages.space.cost(arch).macs, stages.recipe)
    found = plan(
        measured, times, measured.n, within=settings.within, max_milliseconds=settings.budget_latency_ms, most=most
    )
    return {"coarse_hit@1": alone, "times": times.to_json(), "plan": found.to_json()}


def search_hits(stages: TextStages, searcher: Searcher) -> tuple[Measured, float]:
    """What cascades find on the search split, and the share of hits of the coarse model alone."""
    pairs = stages.pairs("search")
    table, right = searcher.table(pairs.captions), relevant(pairs)
    return Measured.of(table, fine_table(stages), right, pairs.labels, _DEEPEST), float(scan_hits(table, right).mean())


def picked(stages: TextStages) -> tuple[Arch, Network, PicturePool, dict[str, Any]]:
    """The encoder that was finished last, and its plan.

    Raises:
        RunError: none was, or it was finished by other settings.
    """
    path = stages.run.path / "picked.json"
    if not path.exists():
        raise RunError(f"{stages.run.path} has no finished encoder; run: cmpnas train {stages.run.path} --pick best")
    content = read_json(path)
    arch = stages.space.from_json(content["arch"])
    if content.get("key") != weights_key(stages, arch):
        raise RunError(
            f"{path} plans for weights of other settings; run: cmpnas train {stages.run.path} --pick {arch.id}"
        )
    network, pool = finish(stages, arch)
    return arch, network, pool, content["plan"]
