"""The seam between Backroom and a database: few verbs, all batched, all fenced.

A store knows no policy: what becomes of a task is decided elsewhere and arrives as a `Transition`. Every verb takes
lists and the present moment, and none of them reads a clock.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from backroom.clock import FIRST, Moment
from backroom.tasks.records import Claim, Held, Page, Query, Record, Renewal, State, Transition, Worker

COUNT_CAP = 10_000
"""`counts` counts no further than this: beyond, a person needs to know "more", and the store need not read it all."""

PAGE = 500
"""Records in one step of what goes through all that a query finds."""


class Request(NamedTuple):
    """What a worker asks of `claim`."""

    queues: tuple[str, ...]
    """Names of queues; empty means every queue there is."""
    limit: int
    worker_id: str
    now: Moment
    lease_until: Moment
    ids: tuple[str, ...] | None = None
    """Only these, for a transport that already knows which: their order of priority does not matter then."""
    is_expected: bool = False
    """Whether there is likely something to claim, so that a store that would look first may try at once instead."""
    is_rung: bool = False
    """Whether a ring told of it, and another claim follows at once: for that one, what has come due may wait."""


class Mark(NamedTuple):
    """A place in the order in which deferred records come due."""

    due_at: Moment = FIRST
    id: str = ""


class Exchange(NamedTuple):
    """What `exchange` did."""

    applied: frozenset[str]
    claims: list[Claim]


class Store(Protocol):
    """Keeps the records of one backend. Safe to use from several threads and processes at once."""

    supports_atomic: bool
    """Whether `transaction()` holds the task's own writes and a transition together."""
    unavailable: tuple[type[Exception], ...]
    """What its verbs raise while the store is away: worth waiting for, and no fault of what was asked."""

    def insert(self, records: Sequence[Record]) -> Mapping[str, str]:
        """Add records; return, for each that collided on its unique key, its id → the id that holds the key.

        A window whose `unique_until` has passed at the record's `enqueued_at` collides with nothing.
        """

    def claim(self, request: Request) -> list[Claim]:
        """Make READY and due records RUNNING: attempts + 1, fence + 1, leased to the worker.

        The higher priority first, and the older id first within one; the claims come in that order.
        """

    def exchange(self, transitions: Sequence[Transition], request: Request | None) -> Exchange:
        """Apply, then claim, in one commit or one round trip where the store can."""

    def renew(self, renewals: Sequence[Renewal], lease_until: Moment) -> Held:
        """Extend leases and note progress, without touching the fence; say which claims are still held."""

    def overdue(self, limit: int, now: Moment) -> list[Claim]:
        """Return RUNNING records whose lease has run out, the longest overdue first."""

    def unstarted(self, limit: int, now: Moment) -> list[Record]:
        """Return waiting records whose `expires_at` has passed."""

    def upcoming(self, limit: int, until: Moment, after: Mark | None = None) -> list[Record]:
        """Return DEFERRED records due at `until` or before, the first due first; those that come `after` a mark."""

    def apply(self, transitions: Sequence[Transition]) -> frozenset[str]:
        """Compare-and-set on (id, fence), fence + 1; return the ids that applied."""

    def request_cancel(self, ids: Sequence[str]) -> frozenset[str]:
        """Ask for RUNNING records to be cancelled, leaving the fence; return the ids that were running."""

    def cancelling(self, worker_id: str) -> frozenset[str]:
        """Return the ids of a worker's RUNNING records that somebody wants cancelled."""

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Return the records that exist, sorted by id."""

    def find(self, query: Query, *, after: str | None = None, limit: int = 100) -> Page:
        """Return records that match, newest first, from below the id `after`."""

    def counts(self) -> dict[tuple[str, State], int]:
        """Return how many records each queue has in each state, none counted beyond `COUNT_CAP`."""

    def oldest_ready(self) -> list[Record]:
        """Return, for each queue that has READY records, the one with the lowest id; sorted by queue."""

    def prune(self, before: Moment, limit: int) -> int:
        """Delete up to `limit` finished records whose `prune_at` is not after `before`; return how many."""

    def beat(self, workers: Sequence[Worker]) -> None:
        """Note that workers are alive."""

    def workers(self) -> list[Worker]:
        """Return every worker that was noted and not forgotten, sorted by id."""

    def forget(self, ids: Sequence[str]) -> None:
        """Delete workers that have gone."""

    def transaction(self) -> AbstractContextManager[None]:
        """Hold what happens inside together: all of it or nothing. Only where `supports_atomic`."""


def pages_of(store: Store, query: Query) -> Iterator[list[Record]]:
    """Yield all that a query finds, newest first, in bounded pages; the records may be changed on the way."""
    after = None
    while True:
        page = store.find(query, after=after, limit=PAGE)
        yield page.records
        if (after := page.next_after) is None:
            return


def page_of(found: Sequence[Record], limit: int) -> Page:
    """Return the page that `limit` + 1 records make: the one too many says that there is more."""
    records = list(found[:limit])
    return Page(records, records[-1].id if len(found) > limit else None)
