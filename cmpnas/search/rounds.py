"""The search: ask a round of architectures, have them evaluated, record, tell.

Everything that a controller is asked and told follows from the records, in their order: neither who evaluates, nor how
many at a time, nor an interruption changes a byte of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from cmpnas.errors import RunError
from cmpnas.files import drop_partial_line
from cmpnas.search.controllers import Controller
from cmpnas.search.race import Race
from cmpnas.search.records import Ahead, Proposal, Record, RecordLog
from cmpnas.space import Arch

#: Evaluates proposals; records come in any order, some at a time.
Judge = Callable[[Sequence[Proposal]], Iterator[list[Record]]]

_MOST = 64  # in a round, if nothing else is wished


def search(
    controller: Controller,
    judge: Judge,
    log: RecordLog,
    ahead: Ahead,
    *,
    trials: int,
    batch: int | None = None,
    score: Callable[[Record], float],
    cost: Callable[[Record], float],
    found: Sequence[Record] = (),
    race: Race | None = None,
) -> Iterator[Record]:
    """Records up to number ``trials``, in order, each when it is on disk.

    Records of an earlier start are told without being evaluated.

    Args:
        batch: how many architectures are asked for before the first of them is told; None for as many as make no
            difference to what the controller proposes: see `cmpnas.search.controllers.Controller`.
        score, cost: what the controller is told of a record.
        found: records that were evaluated but not written by an earlier start.
        race: says of each proposal, by the records before its round, when its evaluation may end early.

    Raises:
        RunError: the log is of another search.
    """
    for path in (log.path, ahead.path):
        drop_partial_line(path)
    known = log.read()
    spare = {(record.n, record.arch): record for record in (*ahead.read(), *found)}
    trials = max(trials, len(known))
    n = 0
    while n < trials:
        plan = _ask(controller, n, trials, batch)
        if not plan:
            return
        done = known[n : n + len(plan)]
        for record, proposal in zip(done, plan, strict=False):
            if record.arch != proposal.arch:
                raise RunError(
                    f"{log.path}, line {record.n + 1} is {record.arch.id} where the controller proposes "
                    f"{proposal.arch.id}; these records are of another search. Name another --run."
                )
        yield from done
        if len(done) < len(plan):
            left = plan[len(done) :]
            if race is not None:
                left = [proposal._replace(marks=race.marks(proposal.arch)) for proposal in left]
            for record in _evaluate(left, judge, log, ahead, spare):
                done.append(record)
                yield record
        for record in done:
            controller.tell(record.arch, score(record), cost(record))
        if race is not None:
            race.add(done)
        n += len(plan)


def _ask(controller: Controller, first: int, trials: int, batch: int | None) -> list[Proposal]:
    """A round of numbered proposals, fewer where there are no more."""
    independent = getattr(controller, "independent", lambda: False)
    plan: list[Proposal] = []
    for n in range(first, min(first + (batch or _MOST), trials)):
        if (plan and batch is None and not independent()) or (arch := controller.ask()) is None:
            break
        plan.append(Proposal(n, arch))
    return plan


def _evaluate(
    plan: Sequence[Proposal],
    judge: Judge,
    log: RecordLog,
    ahead: Ahead,
    spare: dict[tuple[int, Arch], Record],
) -> Iterator[Record]:
    """Records of ``plan`` in its order, written when those before are; those that come too early are set aside."""
    early: dict[int, Record] = {}
    waiting = [proposal.n for proposal in plan]
    there = [spare[key] for proposal in plan if (key := (proposal.n, proposal.arch)) in spare]
    missing = [proposal for proposal in plan if (proposal.n, proposal.arch) not in spare]
    for records in chain([there], judge(missing) if missing else ()):
        early |= {record.n: record for record in records}
        written = []
        while waiting and waiting[0] in early:
            written.append(early.pop(waiting.pop(0)))
            log.append(written[-1])
        for record in records:
            if record.n in early and (record.n, record.arch) not in spare:
                ahead.add(record)
        yield from written
    ahead.clear()
