"""Whether predictions hold for the files that are shipped, and picks of a search within milliseconds keep them.

    cmpnas measure mobile_small --size 48 --out table.json
    python benchmarks/latency.py table.json runs/quickstart
    python benchmarks/latency.py table.json [KEY=VALUE ...]

Takes the pairs of a finished run's front; or runs the quickstart (with overrides of its recipe) under a latency budget
of the median architecture. Exports each as `cmpnas export` does, first of all: a session that is made in a heap full of
the exporter's holes is up to 1.4 times slower. Then files and networks that the table was checked on are made ready
several times, in random order, and timed in turns. The networks say how fast the machine is now, against when the table
was made. Prints predictions, measurements at the table's pace, their ratios, and what about the files differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from command import as_command

from cmpnas.cost.latency import LatencyTable, read_latency_table
from cmpnas.errors import LatencyError
from cmpnas.export.graph import trace, write_onnx
from cmpnas.export.pictures import Pictures, UnitEncoder
from cmpnas.measure import OnnxRuntime
from cmpnas.measure.stopwatch import Timer, session_timer
from cmpnas.measure.table import Plan
from cmpnas.models import build_network
from cmpnas.pipeline.search import search
from cmpnas.recipe import load_recipe
from cmpnas.run import RunFolder
from cmpnas.space import Arch, SearchSpace

_SITTINGS, _ROUNDS = 10, 15


def main(file: Path, more: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    torch.set_num_threads(1)
    file = file.absolute()
    table = read_latency_table(file)
    with tempfile.TemporaryDirectory() as folder:
        space, front, limit = _front(file, more or [], Path(folder))
        archs = list(dict.fromkeys(space.from_json(pair["query"]["arch"]) for pair in front))
        _compare(table, space, archs, limit, Path(folder))


def _front(file: Path, more: list[str], folder: Path) -> tuple[SearchSpace, list[dict[str, Any]], float]:
    """The timed space, pairs of a front, and the milliseconds that they were held to."""
    if more and Path(more[0]).is_dir():
        run = RunFolder.open(Path(more[0]))
        space = run.recipe.space(np.load(run.gallery / "pool.npy", mmap_mode="r").shape[1])
        return space.timed(read_latency_table(file)), run.read_front()["pairs"], float("nan")
    more = ["galleries=[]", *more]
    space = load_recipe("quickstart", more, {"search.latency_table": str(file)}).space()
    drawn = space.sample_many(1000, 0).ns
    assert drawn is not None
    limit = round(float(np.median(drawn)) / 1e6, 6)
    flags = {"search.latency_table": str(file), "search.budget_latency_ms": limit}
    front = search(load_recipe("quickstart", more, flags), folder / "run", say=lambda message: None)
    return space, front["pairs"], limit


def _compare(table: LatencyTable, space: SearchSpace, archs: list[Arch], limit: float, folder: Path) -> None:
    device = OnnxRuntime()
    files = [_files(space, arch, folder) for arch in archs]
    made: dict[tuple[str, int], Callable[[], Timer]] = {}
    for number, kinds in enumerate(files):
        layers = space.layers(archs[number])
        made["chain", number] = lambda layers=layers: device.network(layers)  # type: ignore[misc]
        for kind, content in kinds.items():
            made[kind, number] = lambda content=content: session_timer(content, 1)  # type: ignore[misc]
    known: list[float] = []
    for arch, row in zip(Plan.of(space, len(table.networks) // 2, 0).archs, table.networks, strict=True):
        if row["id"] != arch.id:
            raise LatencyError("the table was measured on other networks than --seed 0 draws; measure it so.")
        if row["held_out"]:
            layers = space.layers(arch)
            made["known", len(known)] = lambda layers=layers: device.network(layers)  # type: ignore[misc]
            known.append(row["ms"])
    times = dict(zip(made, _times(list(made.values())).T, strict=True))
    now = {name: float(np.median(ms)) for name, ms in times.items()}
    pace = np.array([now["known", number] / ms for number, ms in enumerate(known)])
    quartiles = np.quantile(pace, [0.25, 0.75])
    print(f"{len(archs)} queries; table's mean error {table.error or float('nan'):.1%}, budget {limit:.4f} ms")
    print(
        f"{len(known)} networks of the table take {np.median(pace):.3f} times as long as then (quartiles "
        f"{quartiles[0]:.3f} to {quartiles[1]:.3f}); by that measurements are divided"
    )
    print("predicted ms  measured ms  measured/predicted  measured/budget  query")
    ratios = []
    for number, arch in enumerate(archs):
        guess, ms = space.cost(arch).latency_ms or float("nan"), now["file", number] / np.median(pace)
        ratios.append(ms / guess)
        print(f"{guess:12.4f}  {ms:11.4f}  {ms / guess:18.3f}  {ms / limit:15.3f}  {arch.id}")
    print(f"measured/predicted: median {np.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    for kind, over, what in (
        ("file", "chain", "the file over the table's own graph of the same network"),
        ("fixed", "file", "the batch fixed to 1, over the file"),
        ("uint8", "file", "uint8 pictures in (nhwc), over the file"),
    ):
        of = [now[kind, number] / now[over, number] for number in range(len(archs))]
        print(f"{what}: median {np.median(of):.3f}, {min(of):.3f} to {max(of):.3f}")
    sittings = [np.median(ms.reshape(_SITTINGS, _ROUNDS), 1) for name, ms in times.items() if name[0] == "file"]
    print(f"one file made ready anew differs by {np.mean([each.std() / each.mean() for each in sittings]):.1%} (std)")


def _files(space: SearchSpace, arch: Arch, folder: Path) -> dict[str, bytes]:
    """The bundle's file, the same with the batch fixed, and one that takes uint8 pictures."""
    path, taken = folder / "query.onnx", Pictures.parse("nhwc", space.size)
    encoder = UnitEncoder(build_network(space, arch)).eval()
    write_onnx(trace(encoder, np.zeros((2, 3, space.size, space.size), np.float32)), path)
    fixed, found = onnx.load(str(path)), {"file": path.read_bytes()}
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del fixed.graph.value_info[:]
    write_onnx(trace(torch.nn.Sequential(taken.preparation(), encoder), taken.example(2)), path)
    return found | {"fixed": fixed.SerializeToString(), "uint8": path.read_bytes()}


def _times(made: Sequence[Callable[[], Timer]]) -> np.ndarray:
    """Milliseconds ``(sittings * rounds, things)``."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(_SITTINGS):
        timers = {place: made[place]() for place in rng.permutation(len(made))}
        for _ in range(_ROUNDS):
            row = np.zeros(len(made))
            for place in rng.permutation(len(made)):
                row[place] = timers[place]()
            rows.append(row)
    return np.stack(rows)


if __name__ == "__main__":
    as_command(main)
