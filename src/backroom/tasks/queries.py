"""Every operator's question, once. The API, the console, the command line and the admin all ask here."""

from collections.abc import Sequence

from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from django.tasks.exceptions import TaskResultDoesNotExist

from backroom.clock import Moment, seconds_between
from backroom.tasks.backends.base import Backend
from backroom.tasks.exceptions import NotOurs
from backroom.tasks.records import Page, Query, Record, State, Worker


def backend_of(using: str = DEFAULT_TASK_BACKEND_ALIAS) -> Backend:
    """Return the backend of a TASKS alias; raise `NotOurs` when it is none of ours."""
    backend = task_backends[using]
    if not isinstance(backend, Backend):
        raise NotOurs(using, backend)
    return backend


def our_aliases() -> list[str]:
    """Return the TASKS aliases that are ours."""
    return [alias for alias in task_backends.settings if isinstance(task_backends[alias], Backend)]


def shared_aliases() -> list[str]:
    """Return the TASKS aliases that are ours and that other processes see too: those that workers serve."""
    return [alias for alias in our_aliases() if backend_of(alias).is_shared]


def get(task_id: str, *, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> Record:
    """Return a task's record, without importing its function; raise `TaskResultDoesNotExist` when there is none."""
    if records := backend_of(using).store.get([task_id]):
        return records[0]
    raise TaskResultDoesNotExist(task_id)


def get_many(ids: Sequence[str], *, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> list[Record]:
    """Return the records that exist, sorted by id."""
    return backend_of(using).store.get(ids)


def find(query: Query, *, after: str | None = None, limit: int = 100, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> Page:
    """Return records that match, newest first; pass a page's `next_after` as `after` to go on."""
    if not all(map(is_text, (query.queue_name, query.task_path, query.worker_id, after))):
        # No record can have such a name. PostgreSQL would refuse the question.
        return Page([], None)
    return backend_of(using).store.find(query, after=after, limit=limit)


def counts(*, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> dict[tuple[str, State], int]:
    """Return how many tasks each queue has in each state, none counted beyond `stores.base.COUNT_CAP`."""
    return backend_of(using).store.counts()


def oldest_ready(*, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> list[Record]:
    """Return the task that has been ready for longest in each queue that has one, sorted by queue."""
    return backend_of(using).store.oldest_ready()


def ready_since(record: Record) -> Moment:
    """Return since when a READY record has been waiting for a worker, as far as the record knows."""
    return max(record.enqueued_at, record.run_after or 0, record.last_attempted_at or 0)


def is_text(value: str | None) -> bool:
    """Tell whether every store can hold this text, or None: PostgreSQL knows no NUL, and half a character no bytes."""
    return value is None or ("\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value))


def workers(*, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> list[Worker]:
    """Return the workers that were heard of and have not gone."""
    return backend_of(using).store.workers()


def is_silent(worker: Worker, *, now: Moment, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> bool:
    """Tell whether a worker has not been heard of for a whole lease, so that others may take its tasks."""
    return seconds_between(worker.seen_at, now) > backend_of(using).settings.lease


def is_unserved(*, using: str = DEFAULT_TASK_BACKEND_ALIAS) -> bool:
    """Tell whether tasks wait here for a worker of another process, and none has been heard of."""
    if using not in shared_aliases():
        return False
    now = backend_of(using).clock.now()
    return all(is_silent(worker, now=now, using=using) for worker in workers(using=using))


def only_keeps(*, using: str) -> bool:
    """Tell whether a backend does no more than keep the records of others', which run elsewhere, and needs no worker."""
    keeps = any(backend_of(alias).options.get("store") == using for alias in our_aliases())
    return keeps and not counts(using=using)
