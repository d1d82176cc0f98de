"""Training the query network of one pair of the front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmpnas.errors import RunError
from cmpnas.files import write_json
from cmpnas.models.network import Network, build_network
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.run import RunFolder
from cmpnas.search.evaluator import calibrate_on, score_pair
from cmpnas.search.front import pick
from cmpnas.space import Arch
from cmpnas.train import checkpoint
from cmpnas.train.device import device
from cmpnas.train.embed import embed
from cmpnas.train.network import train_network


def train_pick(path: Path, which: str, *, data: str | None = None, say: Say = print) -> dict[str, Any]:
    """Train the query network of one pair of the front, from the supernet's weights.

    Continues from a checkpoint; a network that is trained already is left as it is.

    Returns:
        ``{"id", "mflops", "scores"}`` with the search split's scores, before and after.

    Raises:
        CmpnasError: there is no such run or pick.
    """
    run = RunFolder.open(path)
    chosen = pick(run.read_front(), which)
    stages = Stages.of_run(path, data, say)
    recipe, splits = run.recipe, stages.splits
    arch = stages.space.from_json(chosen["query"]["arch"])
    folder = run.trained(arch.id)
    with run.locked():
        if not (folder / "network.pt").exists():
            say(f"query: training {arch.id} ({chosen['query']['mflops']:.3f} MFLOPs) from the supernet's weights")
            network = stages.supernet.carve(arch)
            with run.timed(f"train {arch.id}"):
                train_network(
                    network, stages.anchor, dict(recipe.query.loss), splits.pool, recipe.query.train,
                    augmentation=recipe.query.augment, seed=recipe.seed,
                    saved=folder / "checkpoint.pt", workers=recipe.workers,
                )  # fmt: skip
                calibrate_on(network, splits.pool, recipe.search.calibration_images)
            write_json(folder / "arch.json", arch.to_json())
            checkpoint.save({"key": stages.trained_key, "network": network.state_dict()}, folder / "network.pt")
            (folder / "checkpoint.pt").unlink()
    network = load_trained(stages, arch)
    query, gallery = embed(network, splits.search.query), embed(network, splits.search.gallery)
    metric = recipe.search.metric
    after = {
        "heterogeneous": score_pair(query, stages.embedded.gallery, splits.search, [metric])[metric],
        "homogeneous": score_pair(query, gallery, splits.search, [metric])[metric],
    }
    return {
        "id": arch.id,
        "mflops": chosen["query"]["mflops"],
        "metric": metric,
        "split": "search",
        "supernet_weights": {k: chosen["scores"][k] for k in ("heterogeneous", "homogeneous")},
        "trained": after,
        "paragon": stages.paragon()["score"],
    }


def load_trained(stages: Stages, arch: Arch) -> Network:
    """A finished query network in eval mode.

    Raises:
        RunError: it is not trained, was trained with other settings, or its file is damaged.
    """
    path = stages.run.trained(arch.id) / "network.pt"
    if not path.exists():
        raise RunError(f"{arch.id} is not trained; run: cmpnas train {stages.run.path} --pick {arch.id}")
    state = checkpoint.load(path)
    if not isinstance(state, dict) or state.get("key") != stages.trained_key:
        raise RunError(f"{path} was trained with other data or settings; delete its folder and train again.")
    network = build_network(stages.space, arch)
    checkpoint.restore(network, state, "network", path, arch.id)
    return network.to(device()).eval()
