"""The store in a database: SQLite and PostgreSQL. What it says to them is in `statements`."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final

from django.db import InterfaceError, OperationalError, transaction

from backroom.clock import Moment
from backroom.sql.dialect import (
    change,
    commits_alone,
    dialect_of,
    execute_each,
    in_transaction,
    patiently,
    select,
    uncompiled,
    vendor_of,
    write_transaction,
)
from backroom.tasks.records import READY, Claim, Held, Page, Query, Record, Renewal, State, Transition, Worker
from backroom.tasks.stores.base import Exchange, Mark, Request, page_of
from backroom.tasks.stores.batches import Columns, batch_of
from backroom.tasks.stores.chunks import chunks_of, size_of_record, size_of_transition
from backroom.tasks.stores.statements import (
    APPLY_ONE,
    BEAT,
    CANCELLING,
    CLAIM,
    COUNTS,
    FIND,
    INSERT,
    INSERT_MANY,
    INSERT_MANY_RINGING,
    INSERT_RINGING,
    INSERT_UNIQUE,
    INSERTED,
    IS_READY,
    LOOK,
    OLDEST_READY,
    OVERDUE,
    READY_QUEUES,
    RING,
    SELECT_WORKERS,
    UNLESS_DUE,
    UNSTARTED,
    UPCOMING,
    Texts,
    texts_of,
)

CHUNK: Final = 5_000
"""Rows in one statement: enough to make the statement's own cost vanish, few enough to bound its memory."""
CHUNK_CHARACTERS: Final = 16_000_000
"""Characters of JSON text in one statement, whose rows PostgreSQL can take up to 256 MB of."""
MAX_STEP: Final = 2**31
"""By how much a claim that does not wait for the disk may raise the fence; a bigint has room for four billion of them."""
MERGED: Final = 50
"""Queues that one claim picks from: SQLite merges 500 at most, and PostgreSQL locks what it picks from each."""


class SQLStore:
    """Keeps the records of one backend in a database alias. Connections belong to threads, so it holds none."""

    supports_atomic = True
    unavailable: tuple[type[Exception], ...] = (OperationalError, InterfaceError)

    def __init__(self, alias: str, backend_name: str, *, channel: str | None = None) -> None:
        self.alias = alias
        self.backend_name = backend_name
        self.channel = channel

    def insert(self, records: Sequence[Record]) -> Mapping[str, str]:
        """See Store.insert()."""
        if any(record.unique_key for record in records):
            return patiently(self.alias, lambda: self._insert_unique(records))
        if len(records) == 1:
            patiently(self.alias, lambda: self._insert_one(records[0]))
        elif records:
            patiently(self.alias, lambda: self._insert_many(records))
        return {}

    def claim(self, request: Request) -> list[Claim]:
        """See Store.claim()."""
        return self.exchange([], request).claims

    def exchange(self, transitions: Sequence[Transition], request: Request | None) -> Exchange:
        """See Store.exchange()."""
        if request and request.limit <= 0:
            request = None
        if transitions:
            return patiently(self.alias, lambda: self._apply_and_claim(transitions, request))
        if request and (claims := patiently(self.alias, lambda: self._claim_at_once(request))):
            return Exchange(frozenset(), claims)
        # A look first: an idle worker must not take SQLite's one write lock to find that there is nothing to do.
        ready, due = self._look(request) if request else (False, False)
        if not request or not (ready or due):
            return Exchange(frozenset(), [])
        return Exchange(frozenset(), patiently(self.alias, lambda: self._claim_only(request, due=due)))

    def renew(self, renewals: Sequence[Renewal], lease_until: Moment) -> Held:
        """See Store.renew()."""
        if not renewals:
            return Held(frozenset(), frozenset())
        rows = patiently(self.alias, lambda: self._fetch(self._texts.renew, lease_until, json.dumps(renewals)))
        return Held(frozenset(id_ for id_, _ in rows), frozenset(id_ for id_, cancel in rows if cancel))

    def overdue(self, limit: int, now: Moment) -> list[Claim]:
        """See Store.overdue()."""
        return [Record._make(row) for row in self._fetch(OVERDUE, self.backend_name, now, limit)]

    def unstarted(self, limit: int, now: Moment) -> list[Record]:
        """See Store.unstarted()."""
        return [Record._make(row) for row in self._fetch(UNSTARTED, self.backend_name, now, limit)]

    def upcoming(self, limit: int, until: Moment, after: Mark | None = None) -> list[Record]:
        """See Store.upcoming()."""
        due_at, id_ = after or Mark()
        return [
            Record._make(row) for row in self._fetch(UPCOMING, self.backend_name, due_at, until, due_at, id_, limit)
        ]

    def apply(self, transitions: Sequence[Transition]) -> frozenset[str]:
        """See Store.apply()."""
        return self.exchange(transitions, None).applied

    def request_cancel(self, ids: Sequence[str]) -> frozenset[str]:
        """See Store.request_cancel()."""
        rows = patiently(self.alias, lambda: self._fetch(self._texts.request_cancel, self.backend_name, _ids(ids)))
        return frozenset(id_ for (id_,) in rows)

    def cancelling(self, worker_id: str) -> frozenset[str]:
        """See Store.cancelling()."""
        return frozenset(id_ for (id_,) in self._fetch(CANCELLING, self.backend_name, worker_id))

    def get(self, ids: Sequence[str]) -> list[Record]:
        """See Store.get()."""
        return [Record._make(row) for row in self._fetch(self._texts.get, self.backend_name, _ids(ids))]

    def find(self, query: Query, *, after: str | None = None, limit: int = 100) -> Page:
        """See Store.find()."""
        conditions, values = ["backend_name = %s"], [self.backend_name]
        if query.states:
            # Written out, so that the planner sees which partial index fits; SQLite sees it in an equation alone.
            # The names are our own constants.
            states = ", ".join(repr(str(state)) for state in query.states)
            conditions.append(f"state IN ({states})" if len(query.states) > 1 else f"state = {states}")
        for column in ("queue_name", "task_path", "reason", "worker_id"):
            if (value := getattr(query, column)) is not None:
                conditions.append(f"{column} = %s")
                values.append(value)
        if after is not None:
            conditions.append("id < %s")
            values.append(after)
        rows = self._fetch(FIND.format(conditions=" AND ".join(conditions)), *values, limit + 1)
        return page_of([Record._make(row) for row in rows], limit)

    def counts(self) -> dict[tuple[str, State], int]:
        """See Store.counts()."""
        # What it may read of each queue at most makes the planner take it for a large statement.
        with uncompiled(self.alias):
            return {(queue, state): count for queue, state, count in self._fetch_of_backend(COUNTS)}

    def oldest_ready(self) -> list[Record]:
        """See Store.oldest_ready()."""
        oldest = [Record._make(row) for row in self._fetch_of_backend(OLDEST_READY)]
        return sorted(oldest, key=lambda record: record.queue_name)

    def prune(self, before: Moment, limit: int) -> int:
        """See Store.prune()."""
        return len(patiently(self.alias, lambda: self._fetch(self._texts.prune, self.backend_name, before, limit)))

    def beat(self, workers: Sequence[Worker]) -> None:
        """See Store.beat()."""
        for worker in workers:
            values = (worker.host, worker.pid, ",".join(worker.queues), worker.threads)
            moments = (worker.started_at, worker.seen_at, worker.running)
            patiently(self.alias, lambda: self._change(BEAT, worker.id, self.backend_name, *values, *moments))  # noqa: B023 - called at once

    def workers(self) -> list[Worker]:
        """See Store.workers()."""
        return [
            Worker(
                id=id_,
                host=host,
                pid=pid,
                queues=tuple(queues.split(",")) if queues else (),
                threads=threads,
                started_at=started_at,
                seen_at=seen_at,
                running=running,
            )
            for id_, host, pid, queues, threads, started_at, seen_at, running in self._fetch(
                SELECT_WORKERS, self.backend_name
            )
        ]

    def forget(self, ids: Sequence[str]) -> None:
        """See Store.forget()."""
        patiently(self.alias, lambda: self._change(self._texts.forget, self.backend_name, json.dumps(sorted(ids))))

    def transaction(self) -> AbstractContextManager[None]:
        """See Store.transaction()."""
        return write_transaction(self.alias)

    def _insert_one(self, record: Record) -> None:
        if self.channel and record.state == READY:
            self._fetch(INSERT_RINGING, *_inserted(record), self.channel)
        else:
            self._change(INSERT, *_inserted(record))

    def _ring(self) -> None:
        if self.channel:
            self._fetch(RING, self.channel)

    def _insert_many(self, records: Sequence[Record]) -> None:
        if dialect_of(self.alias).writes_row_by_row:
            with write_transaction(self.alias):
                execute_each(self.alias, INSERT, [_inserted(record) for record in records])
            return
        *chunks, last = _chunks(records, size_of_record)
        # A statement alone needs no transaction round it.
        is_alone = not chunks and not in_transaction(self.alias)
        with nullcontext() if is_alone else write_transaction(self.alias):
            for chunk in chunks:
                self._change(*self._reading(INSERT_MANY, INSERTED, map(_inserted, chunk)))
            if self.channel:
                self._fetch(*self._reading(INSERT_MANY_RINGING, INSERTED, map(_inserted, last)), self.channel)
            else:
                self._change(*self._reading(INSERT_MANY, INSERTED, map(_inserted, last)))

    def _insert_unique(self, records: Sequence[Record]) -> Mapping[str, str]:
        collisions: dict[str, str] = {}
        # In the order of their keys: two batches that take the same keys in another order would wait for each other.
        left = {record.id: record for record in sorted(records, key=lambda record: record.unique_key or "")}
        with write_transaction(self.alias):
            # The holder of a key may finish between the insert and the look for it; then the key is free again.
            while waiting := list(left.values()):
                for chunk in _chunks(waiting, size_of_record):
                    self._insert_unique_chunk(chunk, left)
                keys = json.dumps([record.unique_key for record in left.values()])
                holders = dict(self._fetch(self._texts.select_holders, self.backend_name, keys)) if left else {}
                held = {id_: holders[record.unique_key] for id_, record in left.items() if record.unique_key in holders}
                collisions |= held
                left = {id_: record for id_, record in left.items() if id_ not in held}
            self._ring()
        return collisions

    def _insert_unique_chunk(self, records: Sequence[Record], left: dict[str, Record]) -> None:
        now = max(record.enqueued_at for record in records)
        keys = json.dumps([record.unique_key for record in records if record.unique_key])
        self._change(self._texts.release_past_windows, self.backend_name, keys, now)
        for (id_,) in self._fetch(*self._reading(INSERT_UNIQUE, INSERTED, map(_inserted, records))):
            del left[id_]

    def _look(self, request: Request) -> tuple[bool, bool]:
        due = (self.backend_name, request.now)
        if request.queues:
            rows = self._fetch(self._texts.look_among, _names(request.queues), self.backend_name, *due)
        else:
            rows = self._fetch(LOOK.format(ready=IS_READY), self.backend_name, *due)
        is_ready, is_due = rows[0]
        return bool(is_ready), bool(is_due)

    def _apply_and_claim(self, transitions: Sequence[Transition], request: Request | None) -> Exchange:
        with write_transaction(self.alias):
            applied = self._apply(sorted(transitions))
            if request and (claims := self._claim_at_once(request)):
                return Exchange(applied, claims)
            # The look comes after the changes, which may have made something ready.
            ready, due = self._look(request) if request else (False, False)
            return Exchange(applied, self._claim(request, due=due) if request and (ready or due) else [])

    def _apply(self, transitions: Sequence[Transition]) -> frozenset[str]:
        if dialect_of(self.alias).writes_row_by_row and self._apply_all(transitions):
            return frozenset(transition.id for transition in transitions)
        return frozenset(
            id_
            for chunk in _chunks(transitions, size_of_transition)
            for (id_,) in self._fetch(self._texts.apply, json.dumps(chunk))
        )

    def _apply_all(self, transitions: Sequence[Transition]) -> bool:
        """Apply all or none, row by row: a count cannot tell which of them lost on their fence."""
        with suppress(_SomeLost), transaction.atomic(using=self.alias):
            rows = [(*transition[2:], transition.id, transition.fence) for transition in transitions]
            if execute_each(self.alias, APPLY_ONE, rows) < len(transitions):
                raise _SomeLost
            return True
        return False

    def _claim_at_once(self, request: Request) -> list[Claim]:
        """Claim without a look where that saves a round trip; nothing, where it does not or something is due."""
        is_possible = request.ids is None and 0 < len(request.queues) <= MERGED
        if not (request.is_expected and is_possible) or dialect_of(self.alias).has_one_writer:
            return []
        # In a transaction it would keep the rest from waiting for the disk.
        if request.is_rung and request.limit == len(request.queues) == 1 and commits_alone(self.alias):
            step = random.randint(2, MAX_STEP)  # noqa: S311 - two are to differ, none is to be kept secret
            rows = self._fetch(self._texts.claim_one, step, *_started(request), self.backend_name, *request.queues, 1)
            return [Record._make(row) for row in rows]
        return self._claim_from(request.queues, request, unless=UNLESS_DUE)

    def _claim_only(self, request: Request, *, due: bool) -> list[Claim]:
        if not due and not in_transaction(self.alias):
            # The one statement that writes needs no transaction round it.
            return self._claim(request, due=False)
        with write_transaction(self.alias):
            return self._claim(request, due=due)

    def _claim(self, request: Request, *, due: bool) -> list[Claim]:
        if due:
            self._change(self._texts.promote, self.backend_name, request.now)
        if request.ids is not None:
            pick = self._texts.pick_ids.format(queues=_among(request.queues))
            values = [self.backend_name, _ids(request.ids), *request.queues, request.limit]
            return self._claim_picked(request, pick, values)
        queues = request.queues or self._ready_queues()
        if len(queues) > MERGED:
            return self._claim_in_rounds(request, queues)
        return self._claim_from(queues, request) if queues else []

    def _claim_in_rounds(self, request: Request, queues: Sequence[str]) -> list[Claim]:
        """Claim from the queues whose first records come first, so many at a time that no other queue's do sooner."""
        claims: list[Claim] = []
        left = dict.fromkeys(queues)
        with write_transaction(self.alias):
            while len(claims) < request.limit and (first := self._first_queues(list(left))):
                wanted = min(MERGED, request.limit - len(claims))
                found = self._claim_from(first, request._replace(limit=wanted))
                if len(found) < wanted:
                    # What is left in them is locked, and another worker's already.
                    left = {name: None for name in left if name not in first}
                claims += found
        return _in_order(claims)

    def _first_queues(self, queues: Sequence[str]) -> list[str]:
        rows = self._fetch(self._texts.first_of_queues, self.backend_name, self.backend_name, _names(queues))
        first = sorted((-priority, id_, name) for name, priority, id_ in rows if id_ is not None)
        return [name for _, _, name in first[:MERGED]]

    def _claim_from(self, queues: Sequence[str], request: Request, *, unless: str = "") -> list[Claim]:
        queues = list(dict.fromkeys(queues))
        values: list[Any] = [value for queue in queues for value in (self.backend_name, queue, request.limit)]
        if len(queues) == 1:
            return self._claim_picked(request, self._texts.pick, values, unless=unless)
        merged = " UNION ALL ".join(f"SELECT * FROM ({self._texts.pick}) AS q{index}" for index in range(len(queues)))
        pick = f"SELECT id FROM ({merged}) AS merged ORDER BY priority DESC, id LIMIT %s"
        return self._claim_picked(request, pick, [*values, request.limit], unless=unless)

    def _claim_picked(self, request: Request, pick: str, values: Sequence[Any], *, unless: str = "") -> list[Claim]:
        rows = self._fetch(
            CLAIM.format(pick=pick, unless=unless),
            *values,
            *_started(request),
            *((self.backend_name, request.now) if unless else ()),
        )
        # RETURNING has no order of its own.
        return _in_order(Record._make(row) for row in rows)

    def _ready_queues(self) -> tuple[str, ...]:
        return tuple(name for (name,) in self._fetch_of_backend(READY_QUEUES))

    def _fetch(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return select(self.alias, statement, parameters)

    def _fetch_of_backend(self, statement: str) -> list[tuple[Any, ...]]:
        """Fetch what a statement finds whose every parameter is this backend's name."""
        return self._fetch(statement, *[self.backend_name] * statement.count("%s"))

    def _change(self, statement: str, *parameters: Any) -> int:
        return change(self.alias, statement, parameters)

    def _reading(self, statement: str, columns: Columns, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Return a statement that reads these rows, and the parameters which these are in it."""
        batch = batch_of(vendor_of(self.alias), columns, rows)
        return [statement.format(rows=batch.item), *batch.parameters]

    @property
    def _texts(self) -> Texts:
        return texts_of(vendor_of(self.alias))


class _SomeLost(Exception):
    """Undoes a batch in which not every transition applied."""


def _started(request: Request) -> tuple[Any, ...]:
    """Return what a claim sets, in the order of its statement."""
    return (request.now, request.now, request.lease_until, request.worker_id, f"{request.worker_id} ")


def _among(queues: Sequence[str]) -> str:
    """Return the condition that keeps a statement to these queues; none where every queue will do."""
    return f"AND queue_name IN ({', '.join(['%s'] * len(queues))})" if queues else ""


def _names(queues: Sequence[str]) -> str:
    return json.dumps([[name] for name in queues])


def _ids(ids: Sequence[str]) -> str:
    """Return ids as JSON, less those that are none: PostgreSQL knows no text with a NUL or half a character."""
    return json.dumps(sorted({id_ for id_ in ids if id_.isprintable()}))


def _in_order(claims: Iterable[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: (-claim.priority, claim.id))


def _chunks[T](rows: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    return chunks_of(rows, size_of, count=CHUNK, size=CHUNK_CHARACTERS)


def _inserted(record: Record) -> tuple[Any, ...]:
    return (*record[:10], *record[11:17])
