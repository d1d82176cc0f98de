"""Controllers side by side on what a search recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.errors import CmpnasError, RunError
from cmpnas.files import whole_lines
from cmpnas.pipeline.results import untimed_space
from cmpnas.progress import track
from cmpnas.run import RunFolder
from cmpnas.search.controllers import find_controller
from cmpnas.search.records import RecordLog, finished
from cmpnas.search.replay import Recording, Search
from cmpnas.search.settings import SearchSettings
from cmpnas.space import load_space


def replay(path: Path, controllers: Sequence[str], *, trials: int, seeds: int) -> dict[str, Any]:
    """Search the records of ``path`` with each controller and seed.

    Args:
        path: a run, or a file of records of a space that comes with the package.
        trials: evaluations of each search; no more than there are records.

    Returns:
        ``recording`` (path, space, architectures, hypervolume), ``trials``, ``seeds``, and by controller ``shares``:
        of that hypervolume the lower quartile, median and upper quartile over seeds after each evaluation; and
        ``seconds`` of processor time that the controller took for one search, the median.

    Raises:
        CmpnasError: there is no such controller, or nothing to search.
    """
    if trials < 1 or seeds < 1:
        raise CmpnasError(f"a replay needs at least one trial and one seed; got {trials} and {seeds}.")
    makers = {name: find_controller(name) for name in controllers}
    recording, population = read_recording(path)
    trials = min(trials, len(recording.archs))
    found: dict[str, list[Search]] = {name: [] for name in makers}
    searches = [(name, seed) for name in makers for seed in range(seeds)]
    for name, seed in track(searches, "replay", total=len(searches)):
        found[name].append(recording.search(makers[name], trials, population=population, seed=seed))
    return {
        "recording": {
            "path": str(path),
            "space": recording.space.name,
            "architectures": len(recording.archs),
            "hypervolume": recording.hypervolume,
        },
        "trials": trials,
        "seeds": seeds,
        "controllers": {
            name: {
                "shares": np.quantile([one.shares for one in runs], [0.25, 0.5, 0.75], axis=0).tolist(),
                "seconds": float(np.median([one.seconds for one in runs])),
            }
            for name, runs in found.items()
        },
    }


def read_recording(path: Path) -> tuple[Recording, int]:
    """The architectures that a run, or a file beside no run, evaluated to the end; and a controller's population.

    Raises:
        RunError: there are none, or they are damaged.
    """
    if path.is_dir():
        folder = RunFolder.open(path)
        search, gallery = folder.recipe.search, folder.recipe.gallery.name
        log = RecordLog(folder.records, untimed_space(folder))
    else:
        search, gallery, log = SearchSettings(), None, RecordLog(path, load_space(_space_of(path)))
    records = finished(log.read())
    if not records:
        raise RunError(f"{log.path} holds no records; finish a search first.")
    name = gallery or next(iter(records[0].galleries))
    scores = np.array([record.reward(name, search.reward) for record in records])
    costs = np.array([record.cost(search.budget) for record in records])
    return Recording(log.space, [record.arch for record in records], costs, scores), search.population


def _space_of(path: Path) -> str:
    """The space that the first record of a file names."""
    lines = whole_lines(path)
    try:
        return str(json.loads(lines[0])["query"]["arch"]["space"])
    except (IndexError, ValueError, KeyError, TypeError):
        raise RunError(f"{path} is neither a run folder nor a file of records.") from None
