"""The search as an experiment of NNI: its manager, its web page and its training services do the evaluating."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cmpnas.errors import RunError
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.workers import split
from cmpnas.search.controllers.by_nni import require_nni
from cmpnas.search.crew import Crew
from cmpnas.search.rounds import Judge
from cmpnas.search.tasks import Tasks

_LOOK = 5.0  # seconds between looks at the manager


@contextmanager
def judge(stages: Stages, trials_at_once: int, config: Path | None) -> Iterator[Judge]:
    """What evaluates by trials of an NNI experiment, which ends with the search.

    Each start of a search is an experiment of its own: the records are what it goes on from.

    Args:
        config: an experiment file of NNI's, for its training service; by default trials run on this machine.

    Raises:
        CmpnasError: NNI is not installed, or the file is not one of its.
        RunError: the manager does not start, or ends before the search.
    """
    require_nni()
    from nni.experiment import Experiment

    folder = stages.run.path / "nni"
    (folder / "code").mkdir(parents=True, exist_ok=True)
    storage, port = f"journal:{folder / f'tasks.{os.getpid()}.journal'}", _free_port()
    tasks = Tasks(storage, stages.space, stages.run.study, stages.judge_key, anew=True)
    experiment = Experiment(_configured(stages, trials_at_once, config, folder, storage, port))
    crew = Crew(tasks, lambda plan: split(stages, plan, trials_at_once), _Manager(experiment, folder).lost)
    crew.finished_before()
    try:
        try:
            with _patience():
                experiment.start(port)
        except Exception as fault:  # requests, and what the manager says
            raise RunError(f"NNI's manager does not start ({fault}); see {folder / 'experiments'}.") from None
        stages.say(
            f"search: NNI's web page is http://127.0.0.1:{port}. Its manager listens on all interfaces and has no "
            "password: keep others from this port."
        )
        yield crew
    finally:
        with suppress(RunError):
            crew.close()
        with suppress(Exception):  # a manager that is gone cannot be stopped
            experiment.stop()


@contextmanager
def _patience() -> Iterator[None]:
    """Give the manager a minute to come up instead of NNI's three seconds, which a busy machine needs for less."""
    from nni.experiment import launcher

    known = launcher._check_rest_server
    launcher._check_rest_server = partial(known, retry=60)
    try:
        yield
    finally:
        launcher._check_rest_server = known


@dataclass
class _Manager:
    """Watches the manager from time to time; trials that die are its tuner's concern."""

    experiment: Any
    folder: Path
    _looked: float = 0.0

    def lost(self) -> list[str]:
        """Nobody.

        Raises:
            RunError: the manager has died.
        """
        if time.monotonic() - self._looked > _LOOK:
            try:
                status = self.experiment.get_status()
            except Exception as fault:  # of requests
                status = type(fault).__name__
            if status not in ("INITIALIZED", "RUNNING", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL"):
                raise RunError(
                    f"NNI's manager ended before the search ({status}); see {self.folder / 'experiments'}. "
                    "Repeat the command with --resume."
                )
            self._looked = time.monotonic()
        return []


def _configured(stages: Stages, trials_at_once: int, file: Path | None, folder: Path, storage: str, port: int) -> Any:
    """An NNI experiment of the search's tasks; a user's file may say where and how trials are started."""
    from nni.experiment import CustomAlgorithmConfig, ExperimentConfig

    if file is None:
        config = ExperimentConfig("local")
    else:
        try:
            config = ExperimentConfig.load(file)
        except Exception as fault:  # of yaml and of NNI's checks
            raise RunError(f"{file} is not an experiment file of NNI's ({' '.join(str(fault).split())}).") from None
    run = stages.run
    config.experiment_name = run.study
    config.experiment_working_directory = str(folder / "experiments")
    config.search_space = {"plan": {"_type": "choice", "_value": ["tasks of the search"]}}
    if config.trial_command is None:
        threads = max(1, torch.get_num_threads() // trials_at_once)
        command = [sys.executable, "-m", "cmpnas.pipeline.nni_trial", str(run.path.absolute())]
        if stages.data is not None:
            command.append(str(Path(stages.data).absolute()))
        config.trial_command = f"OMP_NUM_THREADS={threads} {shlex.join(command)}"
        config.trial_code_directory = str(folder / "code")
    config.trial_concurrency = trials_at_once
    config.tuner = CustomAlgorithmConfig(
        class_name="cmpnas.pipeline.nni_tuner.Feeder",
        code_directory=str(folder / "code"),
        class_args={
            "run": str(run.path.absolute()),
            "storage": f"journal:{Path(storage.partition(':')[2]).absolute()}",
            "study": run.study,
            "key": stages.judge_key,
            "port": port,
        },
    )
    return config


def _free_port() -> int:
    """A port that nobody uses at the moment; a manager that was killed may still hold its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
