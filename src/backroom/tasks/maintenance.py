"""Keep the store in order, in bounded steps: dead leases, tasks never started in time, finished tasks, gone workers.

The packages above tasks do theirs in the same rounds, on the signal `tidying`.
Every worker does it, at times of its own; two that do the same work at once find that the fence has moved.
"""

import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from backroom.clock import Moment, after
from backroom.tasks.announcements import Move, announce
from backroom.tasks.backends.base import Backend
from backroom.tasks.policy import decide, expired
from backroom.tasks.records import Claim, Crashed, Outcome, Record, Transition
from backroom.tasks.resolve import rules_of
from backroom.tasks.rounds import guarded
from backroom.tasks.signals import send, tidying

logger = logging.getLogger("backroom.worker")

BATCH: Final = 500
SECONDS: Final = 1.0
"""For how long one round goes on with one thing that has more than a batch to do."""
SILENT_LEASES: Final = 4
"""After so many leases without a word a worker is taken for gone."""

type Judge = Callable[[Claim], Outcome | None]
"""Says what became of a claim whose lease has run out; None for one that is late and not lost."""


def died(_claim: Claim) -> Outcome:
    """Take every worker that let a lease run out for dead."""
    return Crashed()


def tidy(backend: Backend, now: Moment, *, judge: Judge = died) -> None:
    """Do a bounded amount of everything; what goes wrong with one thing keeps nothing else from being done."""
    guarded("reclaim", lambda: _full_batches(lambda: reclaim(backend, now, judge=judge)))
    guarded("expire", lambda: _full_batches(lambda: expire(backend, now)))
    guarded("prune", lambda: _full_batches(lambda: backend.store.prune(now, BATCH)))
    guarded("forget", lambda: forget_silent(backend, now))
    send(tidying, type(backend), using=backend.alias)


def reclaim(backend: Backend, now: Moment, *, judge: Judge = died) -> int:
    """Take tasks from workers that let their leases run out; return how many."""
    found = [(claim, judge(claim)) for claim in backend.store.overdue(BATCH, now)]
    outcomes = {claim.id: outcome for claim, outcome in found if outcome is not None}
    lost = [claim for claim, _ in found if claim.id in outcomes]
    return move(backend, lost, lambda claim: decided(backend, claim, outcomes[claim.id], now))


def expire(backend: Backend, now: Moment) -> int:
    """Fail waiting tasks whose time to be started is over; return how many."""
    late = backend.store.unstarted(BATCH, now)
    return move(backend, late, lambda record: expired(record, rules=rules_of(record, backend.defaults), now=now))


def forget_silent(backend: Backend, now: Moment) -> None:
    """Forget workers that have not been heard of for several leases."""
    horizon = after(now, -SILENT_LEASES * backend.settings.lease)
    if silent := [worker.id for worker in backend.store.workers() if worker.seen_at < horizon]:
        backend.store.forget(silent)


def decided(backend: Backend, claim: Claim, outcome: Outcome, now: Moment) -> Transition:
    """Return what becomes of a claim that ended so."""
    return decide(claim, outcome, rules=rules_of(claim, backend.defaults), now=now, draw=random.random())  # noqa: S311 - jitter


def move(backend: Backend, records: Iterable[Record], change: Callable[[Record], Transition]) -> int:
    """Apply a change to records and tell the world of those to which it applied; return how many they were."""
    moves = []
    for record in records:
        try:
            moves.append(Move(record, change(record)))
        except Exception:
            # One that cannot be decided must not keep the others from being moved.
            logger.exception("action=undecided task_id=%s path=%s", record.id, record.task_path)
    applied = backend.store.apply([item.transition for item in moves]) if moves else frozenset[str]()
    announce([item for item in moves if item.record.id in applied], sender=type(backend), defaults=backend.defaults)
    if applied:
        backend.wake()
    return len(applied)


def _full_batches(step: Callable[[], int]) -> None:
    """Do `step` again as long as it finds a whole batch to do, for about a second."""
    until = time.monotonic() + SECONDS
    while step() >= BATCH and time.monotonic() < until:
        continue
