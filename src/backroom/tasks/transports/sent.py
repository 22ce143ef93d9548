"""A store whose every record that is made ready is sent, whoever made it so: an enqueue, maintenance, an operator."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from backroom.clock import Moment
from backroom.tasks.records import WAITING, Claim, Held, Page, Query, Record, Renewal, State, Transition, Worker
from backroom.tasks.stores.base import Exchange, Mark, Request, Store


class SentStore:
    """Passes every verb on to another store, and tells `on_waiting` of records that have begun to wait for a worker."""

    def __init__(self, kept_in: Store, on_waiting: Callable[[Sequence[Record]], None]) -> None:
        self.kept_in = kept_in
        self.supports_atomic = kept_in.supports_atomic
        self.unavailable = kept_in.unavailable
        self._on_waiting = on_waiting

    def insert(self, records: Sequence[Record]) -> Mapping[str, str]:
        """See Store.insert()."""
        collisions = self.kept_in.insert(records)
        self._on_waiting([record for record in records if record.id not in collisions])
        return collisions

    def claim(self, request: Request) -> list[Claim]:
        """See Store.claim()."""
        return self.kept_in.claim(request)

    def exchange(self, transitions: Sequence[Transition], request: Request | None) -> Exchange:
        """See Store.exchange()."""
        exchange = self.kept_in.exchange(transitions, request)
        self._tell_of(transitions, exchange.applied)
        return exchange

    def apply(self, transitions: Sequence[Transition]) -> frozenset[str]:
        """See Store.apply()."""
        applied = self.kept_in.apply(transitions)
        self._tell_of(transitions, applied)
        return applied

    def _tell_of(self, transitions: Sequence[Transition], applied: frozenset[str]) -> None:
        ids = [each.id for each in transitions if each.state in WAITING and each.id in applied]
        if ids:
            # A transition knows neither queue nor priority. What has been claimed since needs no message.
            self._on_waiting([record for record in self.kept_in.get(ids) if record.state in WAITING])

    # The rest is passed on as it is.

    def renew(self, renewals: Sequence[Renewal], lease_until: Moment) -> Held:
        """See Store.renew()."""
        return self.kept_in.renew(renewals, lease_until)

    def overdue(self, limit: int, now: Moment) -> list[Claim]:
        """See Store.overdue()."""
        return self.kept_in.overdue(limit, now)

    def unstarted(self, limit: int, now: Moment) -> list[Record]:
        """See Store.unstarted()."""
        return self.kept_in.unstarted(limit, now)

    def upcoming(self, limit: int, until: Moment, after: Mark | None = None) -> list[Record]:
        """See Store.upcoming()."""
        return self.kept_in.upcoming(limit, until, after)

    def request_cancel(self, ids: Sequence[str]) -> frozenset[str]:
        """See Store.request_cancel()."""
        return self.kept_in.request_cancel(ids)

    def cancelling(self, worker_id: str) -> frozenset[str]:
        """See Store.cancelling()."""
        return self.kept_in.cancelling(worker_id)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """See Store.get()."""
        return self.kept_in.get(ids)

    def find(self, query: Query, *, after: str | None = None, limit: int = 100) -> Page:
        """See Store.find()."""
        return self.kept_in.find(query, after=after, limit=limit)

    def counts(self) -> dict[tuple[str, State], int]:
        """See Store.counts()."""
        return self.kept_in.counts()

    def oldest_ready(self) -> list[Record]:
        """See Store.oldest_ready()."""
        return self.kept_in.oldest_ready()

    def prune(self, before: Moment, limit: int) -> int:
        """See Store.prune()."""
        return self.kept_in.prune(before, limit)

    def beat(self, workers: Sequence[Worker]) -> None:
        """See Store.beat()."""
        self.kept_in.beat(workers)

    def workers(self) -> list[Worker]:
        """See Store.workers()."""
        return self.kept_in.workers()

    def forget(self, ids: Sequence[str]) -> None:
        """See Store.forget()."""
        self.kept_in.forget(ids)

    def transaction(self) -> AbstractContextManager[None]:
        """See Store.transaction()."""
        return self.kept_in.transaction()
