"""Keep the store in order, in bounded steps: dead leases, tasks never started in time, finished tasks, gone workers.

The packages above tasks do theirs in the same rounds, on the signal `tidying`.
Every worker does it, at times of its own; two that do the same work at once find that the fence has moved.
"""

import random
from collections.abc import Iterable
from typing import Any

from backroom.clock import Moment, after
from backroom.tasks.announcements import Move, announce
from backroom.tasks.backends.base import Backend
from backroom.tasks.policy import decide, expired
from backroom.tasks.records import Crashed, Record, Transition
from backroom.tasks.resolve import rules_of
from backroom.tasks.signals import tidying

BATCH = 500
SILENT_LEASES = 4
"""After so many leases without a word a worker is taken for gone."""


def tidy(backend: Backend, now: Moment) -> None:
    """Do one bounded step of everything."""
    reclaim(backend, now)
    expire(backend, now)
    backend.store.prune(now, BATCH)
    forget_silent(backend, now)
    tidying.send_robust(sender=type(backend), using=backend.alias)


def reclaim(backend: Backend, now: Moment, *, limit: int = BATCH) -> int:
    """Take tasks from workers that let their leases run out; return how many."""
    return move(backend, ((claim, crashed(backend, claim, now)) for claim in backend.store.overdue(limit, now)))


def expire(backend: Backend, now: Moment, *, limit: int = BATCH) -> int:
    """Fail waiting tasks whose time to be started is over; return how many."""
    return move(
        backend,
        (
            (record, expired(record, rules=rules_of(record, backend.defaults), now=now))
            for record in backend.store.unstarted(limit, now)
        ),
    )


def forget_silent(backend: Backend, now: Moment) -> None:
    """Forget workers that have not been heard of for several leases."""
    horizon = after(now, -SILENT_LEASES * backend.settings.lease)
    if silent := [worker.id for worker in backend.store.workers() if worker.seen_at < horizon]:
        backend.store.forget(silent)


def crashed(backend: Backend, claim: Record, now: Moment) -> Transition:
    """Return what becomes of a claim whose process died."""
    return decide(claim, Crashed(), rules=rules_of(claim, backend.defaults), now=now, draw=random.random())  # noqa: S311 - jitter


def move(backend: Backend, changes: Iterable[tuple[Record, Transition]]) -> int:
    """Apply transitions and tell the world of those that applied; return how many did."""
    moves = [Move(record, transition) for record, transition in changes]
    applied = backend.store.apply([item.transition for item in moves]) if moves else frozenset[Any]()
    announce([item for item in moves if item.record.id in applied], sender=type(backend), defaults=backend.defaults)
    if applied:
        backend.wake()
    return len(applied)
