"""What the parts of the contract share: records to insert, claims to make, and the transitions that policy decides."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from backroom.clock import SECOND, Moment, after
from backroom.tasks.ids import new_id
from backroom.tasks.policy import Rules, decide
from backroom.tasks.records import (
    Claim,
    Crashed,
    Outcome,
    Raised,
    Record,
    Released,
    Snoozed,
    Succeeded,
    Transition,
    Worker,
)
from backroom.tasks.stores.base import Request, Store

NOW: Final[Moment] = 1_900_000_000 * SECOND
LEASE: Final = 30.0
RULES: Final = Rules(max_attempts=3, backoff=60.0)


class StoreCase:
    """One test's stores, and short words for what is done to them."""

    def make_store(self, backend_name: str) -> Store:
        """Return a store for the records of one backend; stores of the same name share them."""
        raise NotImplementedError

    @cached_property
    def store(self) -> Store:
        """The store under test."""
        return self.make_store("contract")

    def insert(self, count: int = 1, **values: Any) -> list[Record]:
        """Insert so many records alike and return them, the oldest first."""
        records = [new_record(**values) for _ in range(count)]
        assert self.store.insert(records) == {}
        return records

    def claim(self, limit: int = 1, **asked: Any) -> list[Claim]:
        """Claim up to so many records."""
        return self.store.claim(request(limit, **asked))

    def insert_and_claim(self, **values: Any) -> Claim:
        """Insert a record and claim it."""
        (record,) = self.insert(**values)
        (claim,) = self.claim(ids=(record.id,), now=values.get("enqueued_at", NOW))
        return claim

    def finish(self, claim: Claim, *, now: Moment = NOW) -> Record:
        """Apply the success of a claim and return the record as it is then."""
        assert self.store.apply([succeeded(claim, now=now)]) == {claim.id}
        return self.read(claim)

    def read(self, record: Record) -> Record:
        """Return a record as the store has it now."""
        (found,) = self.store.get([record.id])
        return found


def new_record(**values: Any) -> Record:
    """Return a record that is ready to be claimed, younger than every one made before."""
    plain: dict[str, Any] = {
        "id": new_id(),
        "backend_name": "contract",
        "queue_name": "default",
        "priority": 0,
        "task_path": "shop.tasks.send",
        "payload": '{"args":[],"kwargs":{}}',
        "enqueued_at": NOW,
    }
    return Record(**(plain | values))


def deferred(seconds: float) -> dict[str, Any]:
    """Return the values of a record that becomes ready in so many seconds."""
    return {"state": "deferred", "run_after": after(NOW, seconds), "due_at": after(NOW, seconds)}


def unique(key: str, scope: str = "unfinished", until: float | None = None) -> dict[str, Any]:
    """Return the values of a record that lets no second one in, for a window until so many seconds from now."""
    window = None if until is None else after(NOW, until)
    return {"unique_key": key, "unique_scope": scope, "unique_until": window}


def request(
    limit: int = 1,
    *,
    queues: Sequence[str] = (),
    worker_id: str = "worker-1",
    now: Moment = NOW,
    ids: Sequence[str] | None = None,
    lease: float = LEASE,
) -> Request:
    """Return what a worker asks for."""
    return Request(tuple(queues), limit, worker_id, now, after(now, lease), None if ids is None else tuple(ids))


def succeeded(claim: Claim, result: str = "null", *, now: Moment = NOW, rules: Rules = RULES) -> Transition:
    """Return the transition of a success."""
    return _decided(claim, Succeeded(result), now=now, rules=rules)


def raised(claim: Claim, *, now: Moment = NOW, rules: Rules = RULES) -> Transition:
    """Return the transition of an exception: a retry a minute later, or the failure when there were three."""
    error = ValueError("out of paper")
    return _decided(claim, Raised(error, "builtins.ValueError", "ValueError: out of paper\n"), now=now, rules=rules)


def failed(claim: Claim, *, now: Moment = NOW) -> Transition:
    """Return the transition of an exception that is not to be retried."""
    return raised(claim, now=now, rules=Rules(max_attempts=1))


def released(claim: Claim) -> Transition:
    """Return the transition that gives a claim back."""
    return _decided(claim, Released())


def snoozed(claim: Claim, seconds: float, *, now: Moment = NOW) -> Transition:
    """Return the transition of a snooze."""
    return _decided(claim, Snoozed(seconds), now=now)


def crashed(claim: Claim, *, now: Moment = NOW) -> Transition:
    """Return the transition of a worker's death."""
    return _decided(claim, Crashed(), now=now)


def worker(worker_id: str, **values: Any) -> Worker:
    """Return a worker to note."""
    plain: dict[str, Any] = {
        "host": "web-1",
        "pid": 4711,
        "queues": (),
        "threads": 4,
        "started_at": NOW,
        "seen_at": NOW,
    }
    return Worker(id=worker_id, **(plain | values))


def ids_of(records: Sequence[Record]) -> list[str]:
    """Return the ids of records, in their order."""
    return [record.id for record in records]


def _decided(claim: Claim, outcome: Outcome, *, now: Moment = NOW, rules: Rules = RULES) -> Transition:
    return decide(claim, outcome, rules=rules, now=now, draw=0.5)
