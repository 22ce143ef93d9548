"""Whether tasks are heard of and worked on: the wake-up, the broker, the workers, and what waits for them."""

import time
from collections.abc import Sequence
from typing import Final

from backroom.clock import after, seconds_between
from backroom.tasks import queries
from backroom.tasks.backends.base import Backend
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.backends.database import DatabaseBackend
from backroom.tasks.doctor.findings import FAIL, OK, WARN, Finding, Findings, milliseconds
from backroom.tasks.records import READY, Worker
from backroom.tasks.tables import count, span
from backroom.tasks.transports.wakeups import Wakeup, is_heard

EAR: Final = 3.0
"""Seconds in which a ring must be heard."""
LONG_WAIT: Final = 300.0
"""Seconds that a ready task may wait for a worker before that is news."""


def wakeup(backend: Backend) -> Findings:
    """Tell whether workers hear at once of what is enqueued."""
    if not isinstance(backend, DatabaseBackend):
        return
    polls = f"workers look every {backend.settings.poll:g} s"
    if not backend.settings.notify:
        yield Finding(OK, "wake-up", f"turned off; {polls}")
        return
    took = _heard_after(backend.wakeup)
    if took is not None:
        yield Finding(OK, "wake-up", f"a ring is heard after {milliseconds(took)}")
        return
    if backend.wakeup.channel is not None:
        text = f"NOTIFY does not arrive, as behind a PgBouncer that pools transactions; nothing is lost: {polls}"
        advice = "To be woken at once, give TASKS an alias of DATABASES that leads past the pool. DISABLE_SERVER_SIDE_CURSORS should be True behind it."
    else:
        text = f"the doorbell does not ring; nothing is lost: {polls}"
        advice = "Its folder, backroom-<uid> in the folder for temporary files, must belong to this user alone."
    yield Finding(WARN, "wake-up", text, advice)


def broker(backend: Backend) -> Findings:
    """Tell whether Celery's broker answers, and how many messages wait there."""
    if not isinstance(backend, CeleryBackend):
        return
    for name in backend.celery_queues:
        depth = backend.transport.depth(name)
        if depth is None:
            advice = (
                "Start it, or correct broker_url of the Celery app. What is enqueued meanwhile is sent when it is back."
            )
            yield Finding(FAIL, "broker", "does not answer", advice)
            return
        yield Finding(OK, "broker", f"{count(depth, 'message')} in the Celery queue {name}")


def priorities(backend: Backend) -> Findings:
    """Tell whether Celery's broker heeds priorities. A project that gives none lacks nothing, so no check asks this."""
    if not isinstance(backend, CeleryBackend):
        return
    if unsorted := [name for name in backend.celery_queues if not backend.transport.knows_priorities(name)]:
        text = f"have no effect in {', '.join(unsorted)}: declared without x-max-priority"
        advice = (
            "If tasks are given any: task_queue_max_priority = 10 of the Celery app, or Queue(name, max_priority=10). "
            "A queue that RabbitMQ has already must be deleted first."
        )
        yield Finding(WARN, "priorities", text, advice)


def workers(backend: Backend) -> Findings:
    """Tell which workers are heard of, and which queues nobody works on."""
    now = backend.clock.now()
    known = queries.workers(using=backend.alias)
    alive = [worker for worker in known if not queries.is_silent(worker, now=now, using=backend.alias)]
    start = f"Start one: {backend.served_by}"
    for worker in known:
        if worker not in alive:
            silent = span(seconds_between(worker.seen_at, now))
            text = f"{worker.id} has been silent for {silent}"
            yield Finding(WARN, "workers", text, "If it is gone, others take its tasks, and forget it before long.")
    if not alive:
        if queries.only_keeps(using=backend.alias):
            yield Finding(OK, "workers", "needs none: it keeps the records of tasks that run elsewhere")
        else:
            yield Finding(WARN, "workers", "none has been heard of", start)
        return
    running = sum(worker.running for worker in alive)
    yield Finding(OK, "workers", f"{count(len(alive), 'process', 'processes')} alive, {count(running, 'task')} running")
    if unserved := sorted(queue for queue in _queues(backend) if not _serves(alive, queue)):
        text = f"nobody works on {', '.join(unserved)}"
        yield Finding(WARN, "queues", text, _serving(backend, unserved))


def backlog(backend: Backend) -> Findings:
    """Tell how long tasks wait, and whether some lie idle."""
    now = backend.clock.now()
    oldest = queries.oldest_ready(using=backend.alias)
    waits = {record.queue_name: seconds_between(queries.ready_since(record), now) for record in oldest}
    for queue, waited in waits.items():
        if waited > LONG_WAIT:
            text = f"a task in {queue} has been waiting for {span(waited)}"
            yield Finding(WARN, "backlog", text, "Start more workers, or find out with status what keeps them.")
    if overdue := backend.store.overdue(1000, after(now, -backend.settings.lease)):
        text = f"{count(len(overdue), 'task')} of dead workers lie idle"
        yield Finding(WARN, "backlog", text, "Any worker of this backend takes them over: start one.")
    if not overdue and max(waits.values(), default=0) <= LONG_WAIT:
        longest = max(waits.values(), default=None)
        yield Finding(OK, "backlog", "nothing waits" if longest is None else f"the longest wait is {span(longest)}")


def _heard_after(wakeup: Wakeup) -> float | None:
    """Ring, and return the seconds until it was heard, or None."""
    listener = wakeup.listener()
    listener.open()
    try:
        # Some ring by themselves when they begin to hear, for what came before.
        listener.hear()
        rung_at = time.perf_counter()
        wakeup.ring()
        return time.perf_counter() - rung_at if is_heard(listener, within=EAR) else None
    finally:
        listener.close()


def _queues(backend: Backend) -> set[str]:
    ready = {queue for (queue, state), _ in queries.counts(using=backend.alias).items() if state == READY}
    return ready | backend.queues


def _serving(backend: Backend, queues: Sequence[str]) -> str:
    """Return how to have workers serve some queues."""
    if isinstance(backend, CeleryBackend):
        # Celery knows the queues that `queue_map` says, and none of ours.
        names = sorted({backend.transport.queue_of(name) for name in queues})
        return f"Start a worker for them: {backend.served_by} --queues {','.join(names)}"
    return "Name them in --queues of a worker, or start one without --queues."


def _serves(workers: Sequence[Worker], queue: str) -> bool:
    return any(not worker.queues or queue in worker.queues for worker in workers)
