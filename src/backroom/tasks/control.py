"""Every operator's verb, once. The API, the console, the command line and the admin all call these."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from django.tasks import DEFAULT_TASK_BACKEND_ALIAS

from backroom.tasks.announcements import Move, announce
from backroom.tasks.backends.base import Backend
from backroom.tasks.leases import CANCEL_TICK, TICK
from backroom.tasks.lifecycle import IllegalMove, Label, label
from backroom.tasks.policy import advanced, cancelled, requeued
from backroom.tasks.queries import backend_of
from backroom.tasks.records import FAILED, LOST, RUNNING, TIMEOUT, WAITING, Record, Transition
from backroom.tasks.resolve import rules_of

TRIES: Final = 5
"""How often a verb reads a record again that changed under it."""
FAILURES: Final[tuple[Label, ...]] = (FAILED, LOST, TIMEOUT)
"""Labels of tasks that came to grief. Nobody chose that, as somebody chose what is cancelled and what expires."""


def cancel(ids: Sequence[str], *, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> list[str]:
    """Cancel tasks: waiting ones at once, running ones by asking them to stop. Return the ids it could do it for.

    A finished task cannot be cancelled; its id is left out.
    """
    backend = backend_of(using)
    done: list[str] = []
    left = list(ids)
    for _ in range(TRIES):
        records = backend.store.get(left)
        running = [record.id for record in records if record.state == RUNNING]
        done += backend.store.request_cancel(running) if running else []
        waiting = [record for record in records if record.state in WAITING]
        done += _apply(backend, waiting, lambda record: _cancelled(backend, record))
        left = [record.id for record in records if record.state in WAITING | {RUNNING} and record.id not in done]
        if not left:
            break
    if done:
        backend.wake()
    return sorted(done)


def seconds_to_stop(*, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> float:
    """Return how long a running task may go on after `cancel`, when it will not listen: then its process is ended."""
    return CANCEL_TICK + 2 * TICK + 2 * backend_of(using).settings.cancel_grace


def retry(
    ids: Sequence[str], *, only: Collection[Label] | None = None, using: str = DEFAULT_TASK_BACKEND_ALIAS
) -> list[str]:
    """Put finished tasks back into their queues with all their attempts. Return the ids it could do it for.

    `only` leaves out those that have none of these labels: with `FAILURES`, what has succeeded, was cancelled or expired.
    """
    return _on_each(ids, requeued, using, only=only)


def run_now(ids: Sequence[str], *, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> list[str]:
    """Make deferred tasks ready at once. Return the ids it could do it for."""
    return _on_each(ids, advanced, using)


def prune(*, using: str = DEFAULT_TASK_BACKEND_ALIAS, batch: int = 1000) -> int:
    """Delete the finished tasks whose time is over, in batches. Return how many."""
    backend = backend_of(using)
    total = 0
    while pruned := backend.store.prune(backend.clock.now(), batch):
        total += pruned
    return total


def _on_each(
    ids: Sequence[str],
    change: Callable[[Record], Transition],
    using: str,
    *,
    only: Collection[Label] | None = None,
) -> list[str]:
    backend = backend_of(using)
    records = [record for record in backend.store.get(ids) if only is None or label(record) in only]
    done = _apply(backend, records, change)
    if done:
        backend.wake()
    return sorted(done)


def _apply(backend: Backend, records: Sequence[Record], change: Callable[[Record], Transition]) -> list[str]:
    moves = []
    for record in records:
        try:
            moves.append(Move(record, change(record)))
        except IllegalMove:
            continue
    applied = backend.store.apply([move.transition for move in moves]) if moves else frozenset()
    announce([move for move in moves if move.record.id in applied], sender=type(backend), defaults=backend.defaults)
    return sorted(applied)


def _cancelled(backend: Any, record: Record) -> Transition:
    return cancelled(record, rules=rules_of(record, backend.defaults), now=backend.clock.now())
