"""Find the operation that a request asks for, or start it: nobody does the same work twice at a time.

Knows no HTTP. Two requests that race for the same work are told apart by unique constraints of the database, so one
of them starts the task and the other one finds it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.db import IntegrityError, router
from django.db.models import Q, QuerySet
from django.tasks.exceptions import InvalidTaskBackend, TaskResultDoesNotExist

from backroom.clock import Moment, SystemClock, after, from_datetime, to_datetime
from backroom.offload.exceptions import IdempotencyMismatch, OffloadNotReady
from backroom.offload.models import Operation
from backroom.offload.owners import Owner
from backroom.offload.status import Status
from backroom.sql.dialect import in_transaction, patiently, write_transaction
from backroom.tasks import control, queries
from backroom.tasks.arguments import normalized
from backroom.tasks.backends.base import Backend
from backroom.tasks.records import Record

UNSEEN_SECONDS: Final = 600.0
"""How long what a visitor asked for by GET waits to be seen by them, even if nothing is cached."""
SEEN_SECONDS: Final = 10.0
"""How long a result that was seen still answers a GET: the same page may be open in another tab."""
FIRST_CHECK_SECONDS: Final = 3_600.0
TRIES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a visitor asks for."""

    task: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any]
    view: str
    """Names the view: the same arguments mean other work elsewhere."""
    origin: str
    method: str
    cache_for: float = 0.0
    shared: bool = False
    idempotency_key: str = ""

    @property
    def is_safe(self) -> bool:
        """Whether repeating the request must not repeat the work (RFC 9110, 9.2.1)."""
        return self.method in {"GET", "HEAD"}

    @property
    def fingerprint(self) -> str:
        """The same for every request for the same work."""
        return _digest(self.view, self.task.module_path, self.task.backend, list(self.args), dict(self.kwargs))


def place(order: Order, owner: Owner) -> Operation:
    """Return the owner's operation for an order: a finished one, the one under way, or a new one.

    Raise `IdempotencyMismatch` when the order's key came before with other input, and what `enqueue()` raises.
    """
    backend = queries.backend_of(order.task.backend)
    order = _normalized(order)
    for _ in range(TRIES):
        found = _look(order, owner, backend)
        if found.operation is not None:
            return found.operation
        try:
            return patiently(database(), partial(_start, order, owner, backend, found))
        except IntegrityError:
            # Another request for the same work came first: the next look finds it.
            continue
    msg = f"Operations for {order.task.module_path} were changed by others {TRIES} times in a row. Try again."
    raise OffloadNotReady(msg)


def get(id_: str) -> Operation | None:
    """Return an operation, whoever's it is."""
    return operations().filter(pk=id_).first()


def status_of(operation: Operation) -> Status:
    """Return how an operation stands now."""
    return Status(operation=operation, record=_record(operation))


def cancel(status: Status) -> bool:
    """Cancel an operation; tell whether that was still possible.

    Where others wait for the same task it goes on, and only this owner's operation ends.
    """
    operation = status.operation
    if status.is_finished:
        return False
    others = operations().filter(backend_name=operation.backend_name, task_id=operation.task_id, left_at=None)
    if heir := others.exclude(pk=operation.pk).order_by("created_at").first():
        patiently(database(), partial(_leave, operation, heir))
        return True
    return bool(control.cancel([operation.task_id], using=operation.backend_name))


def mark_seen(status: Status) -> None:
    """Note that the owner has been told how the operation ended."""
    operation = status.operation
    if operation.seen_at is None and status.is_finished:
        operations().filter(pk=operation.pk, seen_at=None).update(seen_at=now())


def now() -> Moment:
    """Return the present moment."""
    return SystemClock().now()


def database() -> str:
    """Return the alias of the database that keeps operations."""
    return router.db_for_write(Operation)


def operations() -> QuerySet[Operation]:
    """Return all operations; reads too go where writes go, for a replica may not have heard yet."""
    return Operation.objects.using(database())


def is_joinable(status: Status, *, now: Moment, cache_for: float, is_safe: bool) -> bool:
    """Tell whether a new request for the same work is answered by this operation.

    A safe request is also given what was finished for it and not yet seen: else reloading a page that has just
    been prepared would prepare it anew, for ever.
    """
    if status.is_gone:
        return False
    if not status.is_finished:
        return is_safe or status.state != "cancelling"
    if status.is_successful and now < after(_finished_at(status), cache_for):
        return True
    return is_safe and _waits_to_be_seen(status, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What is there already for an order."""

    operation: Operation | None = None
    """The answer to the order."""
    task_id: str = ""
    """A task to share, for which this owner has no operation yet."""
    holds_key: bool = True
    """Whether a new operation is the one to be joined from now on."""
    stale: tuple[str, ...] = ()
    """Operations whose keys are to be freed."""


def _normalized(order: Order) -> Order:
    args = [normalized(value, f"argument {index}") for index, value in enumerate(order.args, 1)]
    kwargs = {key: normalized(value, f"argument {key!r}") for key, value in order.kwargs.items()}
    return Order(
        task=order.task,
        args=args,
        kwargs=kwargs,
        view=order.view,
        origin=order.origin,
        method=order.method,
        cache_for=order.cache_for,
        shared=order.shared,
        idempotency_key="" if order.is_safe else order.idempotency_key,
    )


def _look(order: Order, owner: Owner, backend: Backend) -> _Found:
    names = _Names(order, owner)
    candidates = list(operations().filter(names.condition()))
    for candidate in candidates:
        if candidate.idempotency_key in names.idempotency_keys:
            return _Found(operation=_replayed(candidate, order))
    statuses = list(_statuses(candidates, backend))
    present = now()
    joinable = [
        status
        for status in statuses
        if is_joinable(
            status, now=present, cache_for=order.cache_for, is_safe=order.is_safe and owner.owns(status.operation)
        )
    ]
    for status in joinable:
        if status.operation.key in names.keys:
            if not order.idempotency_key:
                return _Found(operation=status.operation)
            # The key must find this operation again: it gets a handle of its own on the same task.
            return _Found(task_id=status.operation.task_id, holds_key=False)
    stale = tuple(status.operation.pk for status in statuses if status not in joinable)
    for status in joinable:
        if status.operation.task_id and status.operation.left_at is None:
            return _Found(task_id=status.operation.task_id, stale=stale)
    return _Found(stale=stale)


def _start(order: Order, owner: Owner, backend: Backend, found: _Found) -> Operation:
    names = _Names(order, owner)
    present = now()
    operation = Operation(
        backend_name=backend.alias,
        task_id=found.task_id,
        origin=order.origin,
        method=order.method,
        session_hash="" if owner.user_id else owner.session_hash,
        user_id=owner.user_id,
        fingerprint=order.fingerprint,
        key=names.keys[0] if found.holds_key else None,
        shared_key=names.shared_key if found.holds_key and not found.task_id else None,
        idempotency_key=names.idempotency_keys[0] if names.idempotency_keys else None,
        created_at=to_datetime(present),
        check_at=to_datetime(after(present, FIRST_CHECK_SECONDS)),
    )
    with _together(backend):
        if found.stale:
            operations().filter(pk__in=found.stale).update(key=None, shared_key=None)
        operation.save(using=database(), force_insert=True)
        if not operation.task_id:
            _enqueue(order, operation)
    return operation


def _enqueue(order: Order, operation: Operation) -> None:
    operation.task_id = order.task.enqueue(*order.args, **order.kwargs).id
    operation.is_new = True
    operations().filter(pk=operation.pk).update(task_id=operation.task_id)


def _together(backend: Backend) -> AbstractContextManager[None]:
    """Hold the operation and its task together: with the database store, both are committed or neither."""
    # A double that runs the task inside enqueue() would run it inside this transaction.
    return write_transaction(database()) if backend.is_shared else nullcontext()


def is_visible_to_workers() -> bool:
    """Tell whether what was just enqueued can be started before this request ends."""
    return not in_transaction(database())


class _Names:
    """The unique names under which an order's operations are found, each hashed."""

    def __init__(self, order: Order, owner: Owner) -> None:
        self.fingerprint = order.fingerprint
        self.keys = [_digest("key", name, self.fingerprint) for name in owner.names]
        self.shared_key = _digest("shared", self.fingerprint) if order.shared else None
        given = order.idempotency_key
        self.idempotency_keys = [_digest("idempotency", name, given) for name in owner.names] if given else []

    def condition(self) -> Q:
        condition = Q(key__in=self.keys)
        if self.shared_key:
            condition |= Q(shared_key=self.shared_key)
        if self.idempotency_keys:
            condition |= Q(idempotency_key__in=self.idempotency_keys)
        return condition


def _leave(operation: Operation, heir: Operation) -> None:
    """Let an operation end, and have newcomers find the shared task by another one."""
    operation.left_at = to_datetime(now())
    with write_transaction(database()):
        operations().filter(pk=operation.pk).update(left_at=operation.left_at, shared_key=None)
        if operation.shared_key:
            operations().filter(pk=heir.pk, shared_key=None).update(shared_key=operation.shared_key)


def _replayed(operation: Operation, order: Order) -> Operation:
    if operation.fingerprint != order.fingerprint:
        msg = "This Idempotency-Key was sent before with other input. Use a new key for a new request."
        raise IdempotencyMismatch(msg)
    return operation


def _statuses(candidates: Sequence[Operation], backend: Backend) -> Iterator[Status]:
    ids = [candidate.task_id for candidate in candidates if candidate.task_id]
    records = {record.id: record for record in backend.store.get(ids)} if ids else {}
    for candidate in candidates:
        yield Status(operation=candidate, record=records.get(candidate.task_id))


def _record(operation: Operation) -> Record | None:
    if not operation.task_id:
        return None
    try:
        return queries.get(operation.task_id, using=operation.backend_name)
    except (TaskResultDoesNotExist, InvalidTaskBackend):
        return None


def _waits_to_be_seen(status: Status, now: Moment) -> bool:
    seen_at = status.operation.seen_at
    if seen_at is None:
        return now < after(_finished_at(status), UNSEEN_SECONDS)
    # A failure that was seen is asked for again to have it tried again.
    return status.is_successful and now < after(from_datetime(seen_at), SEEN_SECONDS)


def _finished_at(status: Status) -> Moment:
    finished_at = status.finished_at
    assert finished_at is not None  # noqa: S101 - a finished operation has one
    return from_datetime(finished_at)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
