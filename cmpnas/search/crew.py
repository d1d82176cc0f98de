"""Evaluation by workers: the search hands out tasks, collects records, and gives away again what a dead worker had."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cmpnas.errors import RunError
from cmpnas.search.records import Record
from cmpnas.search.tasks import Plan, Task, Tasks

POLL = 0.2  # seconds
BEAT = 5.0
GRACE = 60.0  # without a beat a worker counts as dead
ABANDONED = 600.0  # without a beat of the search its workers end
_TRIES = 3


@dataclass
class Crew:
    """The search's side: evaluates plans by whatever workers there are.

    Attributes:
        split: a plan as tasks.
        lost: names of workers of this machine that have died since it was asked last; raises when too many have.
    """

    tasks: Tasks
    split: Callable[[Plan], list[Plan]]
    lost: Callable[[], list[str]]
    _out: dict[int, Plan] = field(default_factory=dict)
    _failures: Counter[int] = field(default_factory=Counter)
    _heard: dict[int, tuple[int, float]] = field(default_factory=dict)
    _told: float = 0.0
    _beat: int = 0

    def __call__(self, plan: Plan) -> Iterator[list[Record]]:
        """Records of ``plan`` as they come in, in no particular order.

        Raises:
            RunError: an architecture cannot be evaluated, workers die again and again, or the storage is gone.
        """
        for part in self.split(plan):
            self._put(part)
        while self._out:
            if found := self._collect():
                yield found
            else:
                self._tell_beat()
                time.sleep(POLL)

    def finished_before(self) -> list[Record]:
        """Records that workers handed in and an earlier start of this search did not live to see."""
        self._tell_beat()
        return self.tasks.results()

    def close(self) -> None:
        """Let the workers go."""
        self.tasks.tell_state("closed", 0)

    def _put(self, plan: Plan) -> None:
        self._out[self.tasks.put(plan)] = plan

    def _collect(self) -> list[Record]:
        """Records handed in since; what failed or belongs to a dead worker is given away again."""
        unfinished = {task.id: task for task in self.tasks.unfinished()}
        lost, now = self.lost(), time.monotonic()
        for task in unfinished.values():
            if task.id not in self._out:
                self.tasks.fail(task, "of an earlier start of the search")
            elif task.worker is not None and (task.worker in lost or self._silent(task, now)):
                self.tasks.fail(task, f"worker {task.worker} died")
        records: list[Record] = []
        for number in [number for number in self._out if number not in unfinished]:
            plan, result = self._out.pop(number), self.tasks.result(number)
            if isinstance(result, str):
                self._again(plan, result)
            else:
                records += result
        return records

    def _silent(self, task: Task, now: float) -> bool:
        """Has a task's beat stood still for too long, by this process's clock?"""
        beat, since = self._heard.get(task.id, (-1, now))
        if beat != task.beat:
            self._heard[task.id] = task.beat, now
            return False
        return now - since > GRACE

    def _again(self, plan: Plan, reason: str) -> None:
        """Give architectures away once more, each by itself, so that one that cannot be evaluated is found."""
        for proposal in plan:
            self._failures[proposal.n] += 1
            if self._failures[proposal.n] >= _TRIES:
                raise RunError(f"{proposal.arch.id} could not be evaluated in {_TRIES} attempts; the last: {reason}")
            self._put([proposal])

    def _tell_beat(self) -> None:
        if time.monotonic() - self._told > BEAT or not self._beat:
            self._told, self._beat = time.monotonic(), self._beat + 1
            self.tasks.tell_state("open", self._beat)
