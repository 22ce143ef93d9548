"""The reference: the shortest correct store, in this process's memory. Tests and the doubles run on it."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from backroom.clock import Moment
from backroom.tasks.records import (
    DEFERRED,
    FINISHED,
    READY,
    RUNNING,
    WAITING,
    Claim,
    Held,
    Page,
    Query,
    Record,
    Renewal,
    State,
    Transition,
    Worker,
    moved,
)
from backroom.tasks.stores.base import COUNT_CAP, Exchange, Mark, Request, page_of


class MemoryStore:
    """Keeps records in a dict under one lock."""

    supports_atomic = False
    unavailable: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._workers: dict[str, Worker] = {}
        self._lock = threading.RLock()

    def insert(self, records: Sequence[Record]) -> Mapping[str, str]:
        """See Store.insert()."""
        collisions = {}
        with self._lock:
            for record in records:
                holder = self._holder(record)
                if holder is None:
                    self._records[record.id] = record
                else:
                    collisions[record.id] = holder.id
        return collisions

    def claim(self, request: Request) -> list[Claim]:
        """See Store.claim()."""
        if request.limit <= 0:
            return []
        with self._lock:
            self._promote(request.now)
            claimable = [record for record in self._records.values() if _is_claimable(record, request)]
            claimable.sort(key=lambda record: (-record.priority, record.id))
            claims = [_claimed(record, request) for record in claimable[: request.limit]]
            self._records.update((claim.id, claim) for claim in claims)
        return claims

    def exchange(self, transitions: Sequence[Transition], request: Request | None) -> Exchange:
        """See Store.exchange()."""
        with self._lock:
            return Exchange(self.apply(transitions), self.claim(request) if request else [])

    def renew(self, renewals: Sequence[Renewal], lease_until: Moment) -> Held:
        """See Store.renew()."""
        held = []
        with self._lock:
            for renewal in renewals:
                record = self._records.get(renewal.id)
                if record is None or record.fence != renewal.fence or record.state != RUNNING:
                    continue
                progress = record.progress if renewal.progress is None else renewal.progress
                self._records[record.id] = record._replace(lease_until=lease_until, progress=progress)
                held.append(record)
        return Held(
            frozenset(record.id for record in held),
            frozenset(record.id for record in held if record.cancel_requested),
        )

    def overdue(self, limit: int, now: Moment) -> list[Claim]:
        """See Store.overdue()."""
        with self._lock:
            overdue = [
                (record.lease_until, record.id, record)
                for record in self._records.values()
                if record.state == RUNNING and record.lease_until is not None and record.lease_until <= now
            ]
        return [record for _, _, record in sorted(overdue)[:limit]]

    def unstarted(self, limit: int, now: Moment) -> list[Record]:
        """See Store.unstarted()."""
        with self._lock:
            late = [
                (record.expires_at, record.id, record)
                for record in self._records.values()
                if record.state in WAITING and record.expires_at is not None and record.expires_at <= now
            ]
        return [record for _, _, record in sorted(late)[:limit]]

    def upcoming(self, limit: int, until: Moment, after: Mark | None = None) -> list[Record]:
        """See Store.upcoming()."""
        after = after or Mark()
        with self._lock:
            marks = [Mark(record.due_at, record.id) for record in self._records.values() if record.due_at is not None]
            found = sorted(mark for mark in marks if after < mark and mark.due_at <= until)[:limit]
            return [self._records[mark.id] for mark in found if self._records[mark.id].state == DEFERRED]

    def apply(self, transitions: Sequence[Transition]) -> frozenset[str]:
        """See Store.apply()."""
        applied = []
        with self._lock:
            for transition in transitions:
                record = self._records.get(transition.id)
                if record is not None and record.fence == transition.fence:
                    self._records[record.id] = moved(record, transition)
                    applied.append(record.id)
        return frozenset(applied)

    def request_cancel(self, ids: Sequence[str]) -> frozenset[str]:
        """See Store.request_cancel()."""
        with self._lock:
            running = [record for record in self.get(ids) if record.state == RUNNING]
            self._records.update((record.id, record._replace(cancel_requested=True)) for record in running)
        return frozenset(record.id for record in running)

    def cancelling(self, worker_id: str) -> frozenset[str]:
        """See Store.cancelling()."""
        with self._lock:
            return frozenset(
                record.id
                for record in self._records.values()
                if record.state == RUNNING and record.worker_id == worker_id and record.cancel_requested
            )

    def get(self, ids: Sequence[str]) -> list[Record]:
        """See Store.get()."""
        with self._lock:
            return [self._records[id_] for id_ in sorted(set(ids)) if id_ in self._records]

    def find(self, query: Query, *, after: str | None = None, limit: int = 100) -> Page:
        """See Store.find()."""
        with self._lock:
            newest_first = sorted(self._records.values(), key=lambda record: record.id, reverse=True)
        found = [record for record in newest_first if _matches(record, query) and (after is None or record.id < after)]
        return page_of(found[: limit + 1], limit)

    def counts(self) -> dict[tuple[str, State], int]:
        """See Store.counts()."""
        with self._lock:
            counter = Counter((record.queue_name, record.state) for record in self._records.values())
        return {key: min(count, COUNT_CAP) for key, count in counter.items()}

    def oldest_ready(self) -> list[Record]:
        """See Store.oldest_ready()."""
        with self._lock:
            newest_first = sorted((record for record in self._records.values() if record.state == READY), reverse=True)
        oldest = {record.queue_name: record for record in newest_first}
        return [oldest[queue] for queue in sorted(oldest)]

    def prune(self, before: Moment, limit: int) -> int:
        """See Store.prune()."""
        with self._lock:
            old = [
                record.id
                for record in self._records.values()
                if record.state in FINISHED and record.prune_at is not None and record.prune_at <= before
            ]
            for id_ in old[:limit]:
                del self._records[id_]
        return len(old[:limit])

    def beat(self, workers: Sequence[Worker]) -> None:
        """See Store.beat()."""
        with self._lock:
            self._workers.update((worker.id, worker) for worker in workers)

    def workers(self) -> list[Worker]:
        """See Store.workers()."""
        with self._lock:
            return [self._workers[id_] for id_ in sorted(self._workers)]

    def forget(self, ids: Sequence[str]) -> None:
        """See Store.forget()."""
        with self._lock:
            for id_ in ids:
                self._workers.pop(id_, None)

    def transaction(self) -> AbstractContextManager[None]:
        """See Store.transaction(); memory takes nothing back."""
        return nullcontext()

    def records(self) -> list[Record]:
        """Return every record, oldest first."""
        with self._lock:
            return [self._records[id_] for id_ in sorted(self._records)]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()
            self._workers.clear()

    def _holder(self, new: Record) -> Record | None:
        if new.unique_key is None:
            return None
        for record in self._records.values():
            if record.unique_key == new.unique_key and not _is_past_window(record, new.enqueued_at):
                return record
        self._release_key(new.unique_key)
        return None

    def _release_key(self, key: str) -> None:
        for record in list(self._records.values()):
            if record.unique_key == key:
                self._records[record.id] = record._replace(unique_key=None)

    def _promote(self, now: Moment) -> None:
        for record in list(self._records.values()):
            if record.state == DEFERRED and record.due_at is not None and record.due_at <= now:
                self._records[record.id] = record._replace(state=READY, due_at=None)


def _is_claimable(record: Record, request: Request) -> bool:
    if record.state != READY:
        return False
    if request.ids is not None and record.id not in request.ids:
        return False
    return not request.queues or record.queue_name in request.queues


def _claimed(record: Record, request: Request) -> Claim:
    return record._replace(
        state=RUNNING,
        fence=record.fence + 1,
        attempts=record.attempts + 1,
        started_at=request.now if record.started_at is None else record.started_at,
        last_attempted_at=request.now,
        lease_until=request.lease_until,
        worker_id=request.worker_id,
        worker_ids=f"{record.worker_ids}{request.worker_id} ",
        unique_key=None if record.unique_scope == "pending" else record.unique_key,
    )


def _is_past_window(record: Record, now: Moment) -> bool:
    return record.unique_until is not None and record.unique_until <= now


def _matches(record: Record, query: Query) -> bool:
    wanted: Iterable[tuple[object, object]] = (
        (query.queue_name, record.queue_name),
        (query.task_path, record.task_path),
        (query.reason, record.reason),
        (query.worker_id, record.worker_id),
    )
    return (not query.states or record.state in query.states) and all(want in {None, have} for want, have in wanted)
