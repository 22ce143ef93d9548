"""Run tasks in the caller's own thread, on the caller's own connections: for tests, doubles and debuggers."""

from collections.abc import Sequence
from typing import Any

from backroom.clock import Moment, after
from backroom.tasks.announcements import Move, announce
from backroom.tasks.attempts import Attempt
from backroom.tasks.backends.base import Backend
from backroom.tasks.execution import Execution
from backroom.tasks.policy import begun
from backroom.tasks.results import TaskResult, result_of
from backroom.tasks.stores.base import Request

WORKER_ID = "inline"


def run_due(
    backend: Backend, *, queues: Sequence[str] = (), ids: Sequence[str] | None = None
) -> list[TaskResult[..., Any]]:
    """Run what is due, one after the other, until nothing is; return the results of the attempts in their order."""
    results: list[TaskResult[..., Any]] = []
    # Read before anything is claimed: what the settings say of middleware may raise.
    doing = backend.attempts
    while claims := backend.store.claim(_request(backend, queues, ids)):
        for claim in claims:
            try:
                execution = doing.begin(claim)
                attempt = doing.run(execution) if isinstance(execution, Execution) else execution
            except BaseException:
                backend.store.apply([doing.released(begun(claim))])
                raise
            settle(backend, [attempt])
            results += [_reread(backend, attempt)] if attempt.result else []
    return results


def settle(backend: Backend, attempts: Sequence[Attempt]) -> None:
    """Tell the store what became of claims, then the world."""
    applied = backend.store.apply([attempt.transition for attempt in attempts if not attempt.is_applied])
    moves = [
        Move(attempt.claim, attempt.transition, attempt.result, attempt.exception)
        for attempt in attempts
        if attempt.is_applied or attempt.claim.id in applied
    ]
    announce(moves, sender=type(backend), defaults=backend.defaults)


def _request(backend: Backend, queues: Sequence[str], ids: Sequence[str] | None) -> Request:
    now: Moment = backend.clock.now()
    wanted = None if ids is None else tuple(ids)
    # One at a time: a task may change what is due, or take so long that the next one's lease would run out.
    return Request(tuple(queues), 1, WORKER_ID, now, after(now, backend.settings.lease), wanted)


def _reread(backend: Backend, attempt: Attempt) -> TaskResult[..., Any]:
    assert attempt.result is not None  # noqa: S101 - asked by the caller
    records = backend.store.get([attempt.claim.id])
    return result_of(records[0], attempt.result.task) if records else attempt.result
