"""Progress with an estimate of the time left; silent when nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_showing = False  # a bar within a bar says nothing that the outer one does not


def track(iterable: Iterable[T], what: str, *, total: int, done: int = 0) -> Iterator[T]:
    """Pass ``iterable`` through under a progress bar on stderr, if that is a terminal and shows none yet.

    Of the processes of ``torchrun`` the first one shows it.
    """
    global _showing
    if _showing or not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        yield from iterable
        return
    _showing = True
    try:
        with _bar() as progress:
            task = progress.add_task(what, total=total, completed=done)
            for value in iterable:
                yield value
                progress.advance(task)
    finally:
        _showing = False


@contextmanager
def _bar():  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress
