"""Who evaluates: this process, processes that it starts, or workers anywhere that open the run folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cmpnas.distributed import TORCHRUN
from cmpnas.errors import RunError
from cmpnas.gallery.base import Indexed
from cmpnas.models.together import by_beginning
from cmpnas.pipeline.options import evaluator
from cmpnas.pipeline.stages import Say, Stages
from cmpnas.run import RunFolder
from cmpnas.search.crew import Crew
from cmpnas.search.records import Record
from cmpnas.search.rounds import Judge
from cmpnas.search.storage import shown
from cmpnas.search.tasks import Plan, Tasks
from cmpnas.search.worker import work, worker_name

_TOGETHER, _UNKNOWN = 16, 4  # architectures of a task at most, and where nobody knows how many workers there are
_LIVES = 3  # times that each worker may die before something must be wrong
_FAREWELL = 5  # seconds


@contextmanager
def judge(
    stages: Stages, indexed: Mapping[str, Indexed], workers: int | None, storage: str | None
) -> Iterator[tuple[Judge, list[Record]]]:
    """What evaluates, and the records that workers of an earlier start have handed in.

    Args:
        indexed: the search gallery as each option indexes it.

    Raises:
        RunError: the storage cannot be used.
    """
    if storage is None and workers in (None, 1):
        yield evaluator(stages, indexed).together, []
        return
    url = storage or f"journal:{stages.run.path / 'tasks.journal'}"
    tasks = Tasks(url, stages.space, stages.run.study, stages.judge_key, anew=True)
    helpers = _Helpers(stages, url, workers or 0)
    crew = Crew(tasks, lambda plan: split(stages, plan, helpers.count), helpers.lost)
    found = crew.finished_before()
    if storage:
        stages.say(
            f"search: tasks are in {shown(url)}; for more workers: cmpnas worker {stages.run.path} --storage URL"
        )
    try:
        helpers.start()
        yield crew, found
    finally:
        with suppress(RunError):  # the storage is gone, which has been said
            crew.close()
        helpers.stop()


def split(stages: Stages, plan: Plan, workers: int) -> list[Plan]:
    """Tasks of architectures that begin alike; two for each worker, so that none is idle for long at the end."""
    ordered = [plan[i] for i in by_beginning(stages.supernet, [proposal.arch for proposal in plan])]
    at_once = min(_TOGETHER, -(-len(plan) // (2 * workers))) if workers else _UNKNOWN
    return [ordered[start : start + at_once] for start in range(0, len(ordered), at_once)]


@dataclass
class _Helpers:
    """Workers of this machine, which end with the search; each has its part of the processors."""

    stages: Stages
    url: str
    count: int
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _deaths: int = 0

    def start(self) -> None:
        self._running = [self._hire(number) for number in range(self.count)]

    def lost(self) -> list[str]:
        """Names of those that have died since; others are started in their place.

        Raises:
            RunError: they die again and again.
        """
        dead = [helper for helper in self._running if helper.poll() is not None]
        for helper in dead:
            self._deaths += 1
            if self._deaths > _LIVES * self.count:
                last = [*self._log.read_text(errors="replace").splitlines(), "nothing"][-2:][0]
                raise RunError(f"workers end before the search does, the last with status {helper.returncode}, "
                               f"having said: {last} (see {self._log}).")  # fmt: skip
            number = self._running.index(helper)
            self._running[number] = self._hire(number)
        return [worker_name(helper.pid) for helper in dead]

    def stop(self) -> None:
        """Let them end, and end those that do not."""
        for helper in self._running:
            try:
                helper.wait(timeout=_FAREWELL)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()
        self._running.clear()

    @property
    def _log(self) -> Path:
        return self.stages.run.path / "workers.log"

    def _hire(self, number: int) -> subprocess.Popen[bytes]:
        threads = str(max(1, torch.get_num_threads() // self.count))
        # A worker is on its own, whoever started the search.
        own = {name: value for name, value in os.environ.items() if name not in TORCHRUN}
        environment = own | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "CMPNAS_STORAGE": self.url}
        environment |= one_gpu(number)
        command = [sys.executable, "-m", "cmpnas", "worker", str(self.stages.run.path), "--attached"]
        if self.stages.data is not None:
            command += ["--data", self.stages.data]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
            )


def serve(path: Path, url: str, *, data: str | None = None, attached: bool = False, say: Say = print) -> int:
    """Be a worker of the run ``path``, whose search puts its tasks into the storage ``url``, until the search is over.

    Args:
        attached: end at once with the process at the other end of standard input.

    Returns:
        How many architectures were evaluated.

    Raises:
        CmpnasError: ``path`` is no run that is being searched, or an architecture cannot be evaluated here.
    """
    if attached:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    run = RunFolder.open(path)
    if not run.supernet.exists():
        raise RunError(f"{path} has no supernet.pt yet; start workers when the search says so.")
    stages = Stages.of_run(path, data, say)
    tasks = Tasks(url, stages.space, run.study, stages.judge_key)
    return work(tasks, evaluator(stages), stages.reward)


def one_gpu(number: int) -> dict[str, str]:
    """What shows worker ``number`` one of several GPUs, all of them in turn."""
    if (count := torch.cuda.device_count()) < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    return {"CUDA_VISIBLE_DEVICES": visible[number % count]}


def _end_with_parent() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock a daemon thread would keep at the end
        pass
    os._exit(1)
