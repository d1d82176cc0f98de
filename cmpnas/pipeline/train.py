"""Training query networks to the end: the pick of a front, or a variant of it to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cmpnas.compat.weights import check_losses
from cmpnas.distributed import agree, first_alone, together
from cmpnas.errors import RunError
from cmpnas.files import hash_of, read_json, write_json
from cmpnas.gallery.base import Indexed
from cmpnas.models.network import Network, build_network
from cmpnas.pipeline.aligned import align, indexes_for
from cmpnas.pipeline.lessons import Lessons
from cmpnas.pipeline.options import find_option
from cmpnas.pipeline.pretrained import carve_pretrained, must_be_pretrained
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.recipe import Recipe
from cmpnas.run import RunFolder
from cmpnas.search.evaluator import calibrate_on, score_pair
from cmpnas.search.front import pick
from cmpnas.space import Arch, SearchSpace
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.embed import embed
from cmpnas.train.network import train_network

#: The weights that a training starts from, and what messages call them.
Start = Literal["supernet", "scratch", "pretrained"]
_ORIGINS: dict[Start, str] = {
    "supernet": "the supernet's weights", "scratch": "scratch", "pretrained": "the weights of query.pretrained",
}  # fmt: skip


@dataclass(frozen=True)
class Finish:
    """How one architecture is finished: the weights it starts from, its losses by weight, its seed."""

    arch: Arch
    start: Start
    loss: Mapping[str, float]
    seed: int

    @staticmethod
    def by(recipe: Recipe, arch: Arch) -> Finish:
        """As ``recipe`` has it."""
        return Finish(arch, "supernet", dict(recipe.query.loss), recipe.seed)

    def name(self, recipe: Recipe) -> str:
        """Its folder's name: the architecture, and what is not as the recipe has it."""
        usual, parts = Finish.by(recipe, self.arch), [self.arch.id]
        if self.start != usual.start:
            parts.append(self.start)
        if self.loss != usual.loss:
            parts += [f"{name}{weight:g}" for name, weight in self.loss.items()]
        if self.seed != usual.seed:
            parts.append(f"seed{self.seed}")
        return "+".join(parts)

    def to_json(self) -> dict[str, Any]:
        """As it is kept beside the weights."""
        return {"arch": self.arch.to_json(), "start": self.start, "loss": dict(self.loss), "seed": self.seed}

    @staticmethod
    def from_json(content: Any, space: SearchSpace) -> Finish:
        """Read back what `to_json` wrote.

        Raises:
            RunError: it is something else.
        """
        try:
            return Finish(space.from_json(content["arch"]), content["start"], content["loss"], content["seed"])
        except (KeyError, TypeError) as fault:
            raise RunError(f"this does not say how a network was trained ({fault}); delete its folder.") from None


@together()
def train_pick(
    path: Path,
    which: str,
    *,
    start: Start = "supernet",
    loss: Mapping[str, float] | None = None,
    seed: int | None = None,
    data: str | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Train the query network of one pair of the front, by default as the recipe has it.

    Continues from a checkpoint; a network that is trained already is left as it is. Under ``torchrun`` all
    processes train, and all but the first return an empty result.

    Returns:
        ``id``, ``mflops``, and scores on the search split, before and after, against the pair's own ``gallery``; and
        the ``paragon``, the anchor on both sides. ``trained`` is None where the network learned from queries of that
        split; ``index_is_learned`` where it learned from pictures of its gallery.

    Raises:
        CmpnasError: there is no such run, pick or loss, or no pretrained weights to start from.
    """
    run = RunFolder.open(path)
    chosen = pick(run.read_front(), which)
    check_losses(loss or {})
    if start == "pretrained":
        must_be_pretrained(run.recipe)
    stages = Stages.of_run(path, data, say)
    recipe = run.recipe
    arch = stages.space.from_json(chosen["query"]["arch"])
    usual = Finish.by(recipe, arch)
    how = Finish(arch, start, usual.loss if loss is None else dict(loss), usual.seed if seed is None else seed)
    with run.locked():
        stages.prepare()
        option = find_option(stages, chosen["gallery"]["name"])
        indexed = option.indexed
        network = finish(stages, how)
    if network is None:
        return {}
    return {
        "id": arch.id,
        "name": how.name(recipe),
        "mflops": chosen["query"]["mflops"],
        "metric": recipe.search.metric,
        "split": "search",
        "gallery": option.settings.name,
        "supernet_weights": {k: chosen["scores"][k] for k in ("heterogeneous", "homogeneous")},
        "trained": None if stages.splits.search_is_learned else score_search(stages, network, indexed),
        "index_is_learned": stages.splits.index_is_learned("search"),
        "paragon": stages.paragon(),
    }


def finish(stages: Stages, how: Finish) -> Network | None:
    """Train as ``how`` says, or find it trained: a network in eval mode, None in all processes but the first."""
    run, recipe, pool = stages.run, stages.recipe, stages.splits.pool
    name, key = how.name(recipe), weights_key(stages, how)
    folder = run.trained(name)
    saved = folder / f"checkpoint.{key}.pt"  # of these settings and no others
    if agree(not (folder / "network.pt").exists()):
        stages.say(
            f"query: training {name} ({stages.space.cost(how.arch).mflops:.3f} MFLOPs) from {_ORIGINS[how.start]}"
        )
        lessons = stages.picks_lessons
        with run.timed(f"train {name}"):
            network = learn(stages, how, lessons, saved)
        with first_alone() as first:
            if first:
                calibrate_on(network, pool, recipe.search.calibration_images)
                write_json(folder / "how.json", how.to_json())
                checkpoint.save({"key": key, "network": network.state_dict()}, folder / "network.pt")
                saved.unlink()
    with first_alone() as first:
        return load_finished(stages, how) if first else None


def learn(stages: Stages, how: Finish, lessons: Lessons, saved: Path) -> Network:
    """The training alone, continued from the checkpoint ``saved``: a network still to be calibrated."""
    recipe = stages.recipe
    network = _begin(stages, how)
    train_network(
        network, lessons.anchor, dict(how.loss), lessons.items, recipe.query.train,
        augmentation=recipe.query.augment, seed=how.seed, saved=saved, workers=recipe.workers,
    )  # fmt: skip
    return network


def score_search(stages: Stages, network: Network, indexed: Indexed) -> dict[str, float]:
    """M(q, g), the same over the aligned and the joined index, and M(q, q) of a finished network.

    In the recipe's metric, on the search split as a gallery option indexes it.
    """
    task, metric = stages.splits.search, stages.recipe.search.metric
    query, gallery = embed(network, task.query), embed(network, task.gallery)
    found = {
        kind: score_pair(query, index.gallery, task, [metric], index.rejected)[metric]
        for kind, index in indexes_for(indexed, align(stages, network), gallery).items()
    }
    return found | {"homogeneous": score_pair(query, gallery, task, [metric])[metric]}


def list_finished(stages: Stages) -> list[Finish]:
    """Everything that is trained in a run, in order of name.

    Raises:
        RunError: a file is damaged.
    """
    files = sorted((stages.run.path / "trained").glob("*/network.pt"))
    return [Finish.from_json(read_json(file.parent / "how.json"), stages.space) for file in files]


def load_finished(stages: Stages, how: Finish) -> Network:
    """A finished query network in eval mode.

    Raises:
        RunError: it is not trained, was trained with other settings, or its file is damaged.
    """
    name = how.name(stages.recipe)
    path = stages.run.trained(name) / "network.pt"
    if not path.exists():
        raise RunError(f"{name} is not trained; run: cmpnas train {stages.run.path} --pick {how.arch.id}")
    _ = stages.embedded  # if the data of the gallery are others now, that is what is wrong
    state = checkpoint.load_of(weights_key(stages, how), path, checkpoint.FINISHED)
    network = build_network(stages.space, how.arch)
    checkpoint.restore(network, state, "network", path, name)
    return network.to(device()).eval()


def weights_key(stages: Stages, how: Finish) -> str:
    """Key of everything that a finished network was made of."""
    plan, beside = stages.recipe.query.model_dump(mode="json", include={"train"}), stages.splits.beside
    return hash_of(stages.supernet_key, plan, how.to_json(), *([] if beside is None else [beside.fingerprint]))


def _begin(stages: Stages, how: Finish) -> Network:
    if how.start == "supernet":
        return stages.supernet.carve(how.arch)
    if how.start == "scratch":
        return stages.untrained(how.arch, how.seed)
    return carve_pretrained(stages.recipe, stages.data, stages.space, how.arch, stages.lessons.items, how.seed)
