"""The tuner that NNI's manager runs: it hands a search's tasks to trials and their reports to the search.

What a trial was given is known from its own report alone: with several at once NNI 3.0 attaches parameters to the wrong
trial in its listings, and tells the wrong number of a trial that has died.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni.tuner import Tuner

if TYPE_CHECKING:
    from cmpnas.search.records import Proposal
    from cmpnas.search.tasks import Task


class Feeder(Tuner):  # type: ignore[misc]
    """Gives each trial one task of the search that runs beside the manager.

    Where there is no task at the moment, NNI is told that there are no more trials, as tuners of generations do; when
    there is one, it is sent unasked, and NNI goes on. NNI gives a tuner ten seconds to be there, so what takes long
    is imported by the thread that feeds.

    Args:
        run: the run folder.
        storage, study, key: of its tasks.
        port: of the manager, which is stopped when nothing is heard of the search any more.
    """

    def __init__(self, run: str, storage: str, study: str, key: str, port: int) -> None:
        self._run, self._port, self._where = Path(run), port, (storage, study, key)
        self._lock = threading.Lock()
        self._out: dict[int, Task] = {}
        self._free: list[int] = []
        self._live = 0
        self._send: Callable[[int, Any], None] | None = None
        threading.Thread(target=self._feed, daemon=True).start()

    def update_search_space(self, search_space: Any) -> None:
        """The search knows its space."""

    def generate_multiple_parameters(self, parameter_id_list: list[int], **context: Any) -> list[Any]:
        """Note that so many trials are free."""
        with self._lock:
            self._send = context["st_callback"]
            self._free += parameter_id_list
        return []

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **context: Any) -> None:
        """Hand in every task that the trial's report covers, whichever it was given for."""
        with self._lock:
            from cmpnas.search.records import Record

            if reason := value.get("error"):
                failed = {proposal[0] for proposal in value["plan"]}
                for task in self._which(lambda proposal: proposal.n in failed):
                    self._tasks.fail(task, reason)
            else:
                records = [Record.from_json(content, self._space) for content in value["records"]]
                found = {(record.n, record.arch): record for record in records}
                for task in self._which(lambda proposal: proposal[:2] in found):
                    self._tasks.finish(task, [found[proposal[:2]] for proposal in task.plan], self._score)

    def trial_end(self, parameter_id: int, success: bool, **context: Any) -> None:
        """When no trial is left, tasks without a report were those of trials that died."""
        with self._lock:
            self._live -= 1
            if self._live == 0:
                for task in self._which(lambda _: True):
                    self._tasks.fail(task, "its trial ended without a report")

    def _which(self, covers: Callable[[Proposal], bool]) -> Iterable[Task]:
        """Take out the tasks of which ``covers`` holds for all architectures."""
        found = [task for task in self._out.values() if all(map(covers, task.plan))]
        for task in found:
            del self._out[task.id]
        return found

    def _feed(self) -> None:
        """Send tasks to free trials and show that they are being worked on, as long as the search lives."""
        from nni.experiment import rest

        from cmpnas.run import RunFolder
        from cmpnas.search import crew
        from cmpnas.search.tasks import Tasks

        recipe = RunFolder.open(self._run).recipe
        self._space = recipe.space()
        self._score = lambda record: record.reward(recipe.gallery.name, recipe.search.reward)
        storage, study, key = self._where
        self._tasks = Tasks(storage, self._space, study, key)
        beat, heard, beaten = 0, self._tasks.state(), 0.0
        now = since = time.monotonic()
        while now - since <= crew.GRACE:
            with self._lock:
                while self._free and self._send and (task := self._tasks.claim("nni")):
                    self._out[task.id] = task
                    self._live += 1
                    self._send(self._free.pop(0), {"plan": [proposal.to_json() for proposal in task.plan]})
                if now - beaten > crew.BEAT:
                    beat, beaten = beat + 1, now
                    for task in self._out.values():
                        self._tasks.beat(task, beat)
            time.sleep(crew.POLL)
            now, state = time.monotonic(), self._tasks.state()
            if state != heard:
                heard, since = state, now
        rest.delete(self._port, "/experiment")
