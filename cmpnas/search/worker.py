"""A worker's side: take a task, evaluate it, hand in the records, until the search is over."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cmpnas.errors import CmpnasError
from cmpnas.search import crew
from cmpnas.search.evaluator import Evaluator
from cmpnas.search.records import Record
from cmpnas.search.tasks import Task, Tasks


def worker_name(process: int) -> str:
    """Of a process of this machine, unlike that of any other."""
    return f"{socket.gethostname()}:{process}"


def work(tasks: Tasks, evaluator: Evaluator, score: Callable[[Record], float]) -> int:
    """Evaluate tasks until the search says that it is over, or has not been heard of for ten minutes.

    Returns:
        How many architectures were evaluated.

    Raises:
        CmpnasError: a task cannot be evaluated here; the search is told.
    """
    name, done = worker_name(os.getpid()), 0
    heard, since = ("open", 0), time.monotonic()
    while heard[0] == "open" and time.monotonic() - since <= crew.ABANDONED:
        if (task := tasks.claim(name)) is not None:
            records = _evaluate(tasks, task, evaluator)
            if tasks.finish(task, records, score):
                done += len(records)
            since = time.monotonic()
        elif (state := tasks.state()) != heard:
            heard, since = state, time.monotonic()
        else:
            time.sleep(crew.POLL)
    return done


def _evaluate(tasks: Tasks, task: Task, evaluator: Evaluator) -> list[Record]:
    try:
        with _beating(tasks, task):
            return [record for records in evaluator.together(task.plan) for record in records]
    except Exception as fault:
        reason = str(fault) if isinstance(fault, CmpnasError) else f"{type(fault).__name__}: {fault}"
        tasks.fail(task, reason)
        raise


@contextmanager
def _beating(tasks: Tasks, task: Task) -> Iterator[None]:
    """Count up the beat of ``task`` meanwhile."""
    over = threading.Event()

    def beat() -> None:
        count = 1
        with suppress(CmpnasError):  # the storage is gone, as the task will find when it is handed in
            while tasks.beat(task, count) and not over.wait(crew.BEAT):
                count += 1

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
