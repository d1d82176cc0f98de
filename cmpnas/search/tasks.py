"""Tasks for workers, and their results: trials of one study in an Optuna storage.

Nothing but the storage's own operations are used, which are atomic in all of them: a trial is claimed by one worker and
finished once. A worker counts up a beat while it evaluates; whoever reads it needs no clock in common with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cmpnas.errors import RunError
from cmpnas.search.records import Proposal, Record
from cmpnas.search.storage import open_storage, unreachable
from cmpnas.space import SearchSpace

Plan = Sequence[Proposal]
T = TypeVar("T")

_PATIENCE = 60.0  # seconds that a storage may be away, as a database is when it is restarted


@dataclass(frozen=True)
class Task:
    """Proposals to evaluate; ``beat`` and ``worker`` are of the one that does."""

    id: int
    plan: tuple[Proposal, ...]
    worker: str | None = None
    beat: int = 0


class Tasks:
    """The tasks of one run in the storage at ``url``.

    Args:
        key: of all that results depend on.
        anew: begin without tasks and results of another key under this name, as a search does that has changed since.

    Raises:
        RunError: the storage cannot be used, or holds tasks of another key under this name.
    """

    def __init__(self, url: str, space: SearchSpace, study: str, key: str, *, anew: bool = False) -> None:
        from optuna.trial import TrialState

        self.url, self.space, self._states = url, space, TrialState
        self._storage = open_storage(url)
        found = self._open(study, key)
        if found != key and anew:
            self._call("delete_study", self._study)
            found = self._open(study, key)
        if found != key:
            raise RunError(
                f"study {study!r} of storage {self.url} is of another run (its key is {found}, here {key}); "
                "use the same run folder everywhere, or another storage."
            )

    def _open(self, study: str, key: str) -> str | None:
        """Open the study of this name, or make it with this key; the key that it has."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        try:
            self._study = self._call("create_new_study", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE], study)
            self._call("set_study_user_attr", self._study, "key", key)
        except DuplicatedStudyError:
            self._study = self._call("get_study_id_from_name", study)
        for _ in range(50):  # the one that made the study may be about to write its key
            found: str | None = self._call("get_study_user_attrs", self._study).get("key")
            if found is not None:
                break
            time.sleep(0.1)
        return found

    def put(self, plan: Plan) -> int:
        """Add a task; its id."""
        from optuna.trial import create_trial

        content = [proposal.to_json() for proposal in plan]
        trial = create_trial(state=self._states.WAITING, user_attrs={"plan": content})
        return int(self._call("create_new_trial", self._study, trial))

    def claim(self, worker: str) -> Task | None:
        """A task that nobody else has or gets, or None."""
        for trial in self._trials(self._states.WAITING):
            if self._update("set_trial_state_values", trial.id, self._states.RUNNING):
                self._update("set_trial_user_attr", trial.id, "worker", worker)
                return Task(trial.id, trial.plan, worker)
        return None

    def beat(self, task: Task, count: int) -> bool:
        """Show that ``task`` is being worked on; False if it has been taken away."""
        return self._update("set_trial_user_attr", task.id, "beat", count) is not False

    def finish(self, task: Task, records: Sequence[Record], score: Callable[[Record], float]) -> bool:
        """Hand in the records of ``task``; False if it has been taken away.

        The trial's values, for those who look at the study, are the score and MFLOPs of its best record.
        """
        best = max(records, key=score)
        handed = self._update("set_trial_user_attr", task.id, "records", [record.to_json() for record in records])
        values = [score(best), best.mflops]
        return handed is not False and self._update("set_trial_state_values", task.id, self._states.COMPLETE, values)

    def fail(self, task: Task, reason: str) -> bool:
        """Take ``task`` away from whoever has it, or say why it cannot be done; False if it was finished before."""
        self._update("set_trial_user_attr", task.id, "reason", reason)
        return self._update("set_trial_state_values", task.id, self._states.FAIL)

    def unfinished(self) -> list[Task]:
        """Tasks that wait or are being worked on."""
        return self._trials(self._states.WAITING, self._states.RUNNING)

    def result(self, task: int) -> list[Record] | str:
        """Records of a finished task, or why it failed."""
        trial = self._call("get_trial", task)
        if trial.state == self._states.COMPLETE:
            return [Record.from_json(content, self.space) for content in trial.user_attrs["records"]]
        return str(trial.user_attrs.get("reason", "nobody said why"))

    def results(self) -> list[Record]:
        """Records of all finished tasks."""
        trials = self._call("get_all_trials", self._study, False, (self._states.COMPLETE,))
        return [Record.from_json(content, self.space) for trial in trials for content in trial.user_attrs["records"]]

    def tell_state(self, state: str, beat: int) -> None:
        """For workers: whether the search is ``open`` or ``closed``, and that its process lives."""
        self._call("set_study_user_attr", self._study, "search", [state, beat])

    def state(self) -> tuple[str, int]:
        """What the search told last."""
        state, beat = self._call("get_study_user_attrs", self._study).get("search", ("open", 0))
        return state, beat

    def _trials(self, *states: Any) -> list[Task]:
        tasks = []
        for trial in self._call("get_all_trials", self._study, False, states):
            said = trial.user_attrs
            plan = tuple(Proposal.from_json(content, self.space) for content in said["plan"])
            # One that died as it took the task has not said its name.
            worker = said.get("worker", "unknown" if trial.state == self._states.RUNNING else None)
            tasks.append(Task(trial._trial_id, plan, worker, said.get("beat", 0)))
        return tasks

    def _update(self, what: str, *arguments: Any) -> Any:
        """False where the trial was finished by somebody else."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            return self._call(what, *arguments)
        except UpdateFinishedTrialError:
            return False

    def _call(self, what: str, *arguments: Any) -> Any:
        """An operation of the storage, tried again while it is away for a minute."""
        from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError

        start, fault = time.monotonic(), None
        while fault is None or time.monotonic() - start <= _PATIENCE:
            if fault is not None:
                time.sleep(1)
            try:
                return getattr(self._storage, what)(*arguments)
            except (DuplicatedStudyError, UpdateFinishedTrialError):
                raise
            except Exception as found:  # each driver has its own
                fault = found
        raise unreachable(self.url, fault) from None
