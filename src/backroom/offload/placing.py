"""Find the operation that an order asks for, or start it: nobody does the same work twice at a time.

Two requests that race for the same work are told apart by unique constraints of the database, so one of them starts
the task and the other one finds it.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final

from django.db import IntegrityError

from backroom.clock import Moment, after, from_datetime, to_datetime
from backroom.offload import operations
from backroom.offload.exceptions import IdempotencyMismatch, OffloadNotReady
from backroom.offload.models import Operation
from backroom.offload.orders import Names, Order, in_json_types
from backroom.offload.owners import Owner
from backroom.offload.status import Status
from backroom.sql.dialect import patiently, telling_of_missing_tables, write_transaction
from backroom.tasks import queries
from backroom.tasks.backends.base import Backend

UNSEEN_SECONDS: Final = 600.0
"""How long what a visitor asked for by GET waits to be seen by them, even if nothing is cached."""
SEEN_SECONDS: Final = 10.0
"""How long a result that was seen still answers a GET: the same page may be open in another tab."""
FIRST_CHECK_SECONDS: Final = 3_600.0
TRIES: Final = 10


def place(order: Order, owner: Owner) -> Operation:
    """Return the owner's operation for an order: a finished one, the one under way, or a new one.

    Raise `IdempotencyMismatch` when the order's key came before with other input, and what `enqueue()` raises.
    """
    with telling_of_missing_tables(operations.database(), "backroom.offload"):
        return _place(in_json_types(order), owner, queries.backend_of(order.task.backend))


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


def _place(order: Order, owner: Owner, backend: Backend) -> Operation:
    for _ in range(TRIES):
        found = _look(order, owner, backend)
        if found.operation is not None:
            return found.operation
        try:
            return patiently(operations.database(), partial(_start, order, owner, backend, found))
        except IntegrityError:
            # Another request for the same work came first: the next look finds it.
            continue
    msg = f"Operations for {order.task.module_path} were changed by others {TRIES} times in a row. Try again."
    raise OffloadNotReady(msg)


def _look(order: Order, owner: Owner, backend: Backend) -> _Found:
    names = Names(order, owner)
    candidates = list(operations.operations().filter(names.condition()))
    for candidate in candidates:
        if candidate.idempotency_key in names.idempotency_keys:
            return _Found(operation=_replayed(candidate, order))
    statuses = list(_statuses(candidates, backend))
    present = operations.now()
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
    names = Names(order, owner)
    present = operations.now()
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
            _free(names, found.stale)
        operation.save(using=operations.database(), force_insert=True)
        if not operation.task_id:
            _enqueue(order, operation)
    return operation


def _free(names: Names, ids: Sequence[str]) -> None:
    """Take from operations the names that a new one is to have, and no others: an owner may still come for theirs."""
    stale = operations.operations().filter(pk__in=ids)
    stale.filter(key__in=names.keys).update(key=None)
    if names.shared_key:
        stale.filter(shared_key=names.shared_key).update(shared_key=None)


def _enqueue(order: Order, operation: Operation) -> None:
    operation.task_id = order.task.enqueue(*order.args, **order.kwargs).id
    operation.is_new = True
    operations.operations().filter(pk=operation.pk).update(task_id=operation.task_id)


def _together(backend: Backend) -> AbstractContextManager[None]:
    """Hold the operation and its task together: with the database store, both are committed or neither."""
    # A double that runs the task inside enqueue() would run it inside this transaction.
    return write_transaction(operations.database()) if backend.is_shared else nullcontext()


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
