"""Any history of a store, told twice: the store and the reference do the same, and no history breaks a promise.

Hypothesis makes up the history: what is inserted, who claims, how attempts end, who comes too late, how time passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backroom.clock import after
from backroom.tasks.exceptions import TaskTimeout
from backroom.tasks.lifecycle import MOVES, label
from backroom.tasks.policy import Rules, advanced, cancelled, decide, expired, requeued
from backroom.tasks.records import (
    DEFERRED,
    FINISHED,
    READY,
    RUNNING,
    Cancelled,
    Claim,
    Crashed,
    Expired,
    Outcome,
    Query,
    Raised,
    Record,
    Released,
    Renewal,
    Snoozed,
    Succeeded,
    Transition,
)
from backroom.tasks.stores.base import Store
from backroom.tasks.stores.memory import MemoryStore
from backroom.tasks.stores.sql import SQLStore
from backroom.testing.stores.case import NOW, new_record, request

QUEUES = ("mail", "print", "scan")
MANY = (*(f"customer-{number}" for number in range(40)), *QUEUES)
"""More than a store may look into one by one."""
RULES = Rules(
    max_attempts=2,
    backoff=(5.0, 30.0),
    fail_on=(LookupError,),
    crash_budget=2,
    keep_seconds=60,
    keep_failed_seconds=120,
)


def raised(error: BaseException) -> Raised:
    kind = type(error)
    return Raised(error, f"{kind.__module__}.{kind.__qualname__}", f"{kind.__name__}\n")


outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Succeeded("42")),
    st.sampled_from([raised(ValueError()), raised(LookupError()), raised(TaskTimeout())]),
    st.sampled_from([Snoozed(0.0), Snoozed(20.0)]),
    st.just(Released()),
    st.just(Crashed()),
    st.just(Cancelled()),
    st.just(Expired()),
)
waits = st.sampled_from([None, None, None, 20.0, 1.0])
plans = st.fixed_dictionaries(
    {
        "queue_name": st.sampled_from(QUEUES),
        "priority": st.integers(-1, 1),
        "wait": waits,
        "expires": waits,
        "unique": st.none() | st.tuples(st.sampled_from("ab"), st.sampled_from(["pending", "unfinished", "window"])),
    }
)
requests = st.fixed_dictionaries(
    {
        "limit": st.integers(1, 4),
        "queues": st.sampled_from([(), ("mail",), QUEUES, MANY]),
        "worker_id": st.sampled_from(["worker-1", "worker-2"]),
        "lease": st.sampled_from([5.0, 30.0]),
    }
)


type Plan = dict[str, Any]
batches = st.lists(plans, min_size=1, max_size=4)
numbers = st.integers(0, 99)
endings = st.lists(st.tuples(numbers, outcomes), min_size=1, max_size=4)


def pick[T](items: list[T], number: int) -> T:
    """Return one of the items; the small numbers, to which Hypothesis leans, pick the latest."""
    return items[-1 - number % len(items)]


class Histories(RuleBasedStateMachine):
    def __init__(self, store: Store, empty: Callable[[], object]) -> None:
        super().__init__()
        self.empty = empty
        self.now = NOW
        self.number = 0
        self.memory = MemoryStore()
        self.store = store
        self.claims: list[Claim] = []
        """Every claim that was ever made: whoever holds an old one does not know that it is lost."""
        self.read: list[Record] = []
        """Every record as somebody once read it."""
        self.decided: list[Transition] = []
        """What was decided and may be applied late, or twice."""
        self.before: dict[str, Record] = {}
        self.requeued: set[str] = set()
        self.pruned: set[str] = set()

    @initialize(batch=batches)
    def begin(self, batch: list[Plan]) -> None:
        self.empty()
        self.insert(batch)

    # ── What can happen ────────────────────────────────────────────────────────────────────────

    @rule(batch=batches)
    def insert(self, batch: list[Plan]) -> None:
        records = [self.record(**plan) for plan in batch]
        collisions = self.both("insert", records)
        assert set(collisions) <= {record.id for record in records}
        self.read += [record for record in records if record.id not in collisions]

    @rule(asked=requests)
    def claim(self, asked: Plan) -> None:
        self.claimed(self.both("claim", request(now=self.now, **asked)))

    @rule(asked=requests, ends=st.lists(outcomes, min_size=1, max_size=4), seconds=st.sampled_from([0.0, 1.0]))
    def work(self, asked: Plan, ends: list[Outcome], seconds: float) -> None:
        claims = self.both("claim", request(now=self.now, **asked))
        self.claimed(claims)
        self.every_record_keeps_its_promises()
        self.now = after(self.now, seconds)
        decided = [self.decide(claim, outcome) for claim, outcome in zip(claims, ends, strict=False)]
        assert self.both("apply", decided) == {transition.id for transition in decided}

    @precondition(lambda self: self.read)
    @rule(picks=st.lists(numbers, min_size=1, max_size=3), asked=requests)
    def claim_by_id(self, picks: list[int], asked: Plan) -> None:
        ids = [pick(self.read, number).id for number in picks]
        # Which of several ids a limit leaves out is not promised.
        self.claimed(self.both("claim", request(now=self.now, ids=ids, **asked | {"limit": len(ids)})))

    @precondition(lambda self: self.claims)
    @rule(ends=endings)
    def finish(self, ends: list[tuple[int, Outcome]]) -> None:
        transitions = self.decide_some(ends)
        self.applied(self.both("apply", transitions), transitions)

    @precondition(lambda self: self.claims)
    @rule(ends=endings, asked=requests)
    def finish_and_claim(self, ends: list[tuple[int, Outcome]], asked: Plan) -> None:
        transitions = self.decide_some(ends)
        exchange = self.both("exchange", transitions, request(now=self.now, **asked))
        self.applied(exchange.applied, transitions)
        self.claimed(exchange.claims)

    @precondition(lambda self: self.decided)
    @rule(number=numbers)
    def come_late(self, number: int) -> None:
        transition = pick(self.decided, number)
        self.applied(self.both("apply", [transition]), [transition])

    @precondition(lambda self: self.claims)
    @rule(picks=st.sets(numbers, min_size=1, max_size=3), progress=st.none() | st.just('[1,2,""]'))
    def renew(self, picks: set[int], progress: str | None) -> None:
        held = {claim.id: claim for claim in (pick(self.claims, number) for number in sorted(picks))}
        renewals = [Renewal(claim.id, claim.fence, progress) for claim in held.values()]
        found = self.both("renew", renewals, after(self.now, 30))
        assert found.ids == {claim.id for claim in held.values() if self.holds(claim)}

    @rule(seconds=st.sampled_from([30.0, 5.0, 1.0, 100.0]), limit=st.integers(1, 5))
    def maintain_after(self, seconds: float, limit: int) -> None:
        self.now = after(self.now, seconds)
        overdue = self.both("overdue", limit, self.now)
        crashes = [self.decide(claim, Crashed()) for claim in overdue]
        assert self.both("apply", crashes) == {claim.id for claim in overdue}
        late = self.both("unstarted", limit, self.now)
        ends = [expired(record, rules=RULES, now=self.now) for record in late]
        assert self.both("apply", ends) == {record.id for record in late}

    @precondition(lambda self: self.read)
    @rule(number=numbers, is_fresh=st.booleans(), verb=st.sampled_from(["cancel", "run now", "put back"]))
    def operate(self, number: int, is_fresh: bool, verb: str) -> None:
        record = pick(self.read, number)
        if is_fresh:
            record = self.before.get(record.id, record)
            self.read.append(record)
        match verb, record.state:
            case "cancel", "running":
                asked = self.both("request_cancel", [record.id])
                assert (record.id in asked) == (self.state_of(record) == RUNNING)
            case "cancel", ("ready" | "deferred"):
                self.change(cancelled(record, rules=RULES, now=self.now))
            case "run now", "deferred":
                self.change(advanced(record))
            case "put back", ("successful" | "failed") if self.change(requeued(record)):
                self.requeued.add(record.id)

    @precondition(lambda self: self.old())
    @rule()
    def prune(self) -> None:
        old = self.old()
        assert self.both("prune", self.now, 1_000) == len(old)
        self.pruned |= old

    # ── What must hold ─────────────────────────────────────────────────────────────────────────

    @invariant()
    def both_stores_hold_the_same(self) -> None:
        records = self.memory.records()
        assert self.store.find(Query(), limit=10_000).records == records[::-1]
        self.both("counts")
        self.both("oldest_ready")
        self.both("cancelling", "worker-1")
        for query in (Query(states=(READY,)), Query(states=(DEFERRED, RUNNING), queue_name="mail")):
            assert self.store.find(query) == self.memory.find(query)

    @invariant()
    def every_record_keeps_its_promises(self) -> None:
        now = {record.id: record for record in self.memory.records()}
        assert self.before.keys() - now.keys() <= self.pruned, "a task was lost"
        for record in now.values():
            whole(record)
            if (before := self.before.get(record.id)) is not None:
                self.follows(before, record)
        keys = [record.unique_key for record in now.values() if record.unique_key is not None]
        assert len(keys) == len(set(keys)), "two tasks hold one key"
        self.before = now
        self.requeued.clear()

    def follows(self, before: Record, record: Record) -> None:
        """Check what may become of a record in one step."""
        assert record.fence >= before.fence
        if record.fence == before.fence:
            # Time alone makes a deferred task ready; a lease is extended, a cancel asked for, a window passes.
            assert (before.state, record.state) in {(each, each) for each in MOVES} | {(DEFERRED, READY)}
        if before.state in FINISHED and record.id not in self.requeued:
            assert record == before._replace(unique_key=record.unique_key), "a finished task changed"
        if before.started_at is not None and record.started_at is None:
            assert record.attempts == 0

    # ── How it is told ─────────────────────────────────────────────────────────────────────────

    def both(self, verb: str, *arguments: Any) -> Any:
        expected = getattr(self.memory, verb)(*arguments)
        assert getattr(self.store, verb)(*arguments) == expected
        return expected

    def decide(self, claim: Claim, outcome: Outcome) -> Transition:
        self.decided.append(decide(claim, outcome, rules=RULES, now=self.now, draw=0.5))
        return self.decided[-1]

    def decide_some(self, ends: list[tuple[int, Outcome]]) -> list[Transition]:
        picked = {(claim := pick(self.claims, number)).id: (claim, outcome) for number, outcome in ends}
        return [self.decide(claim, outcome) for claim, outcome in picked.values()]

    def change(self, transition: Transition) -> bool:
        self.decided.append(transition)
        applied = self.both("apply", [transition])
        self.applied(applied, [transition])
        return bool(applied)

    def claimed(self, claims: list[Claim]) -> None:
        """Check that what was claimed was waiting, and for what."""
        self.claims += claims
        self.read += claims
        for claim in claims:
            assert claim.state == RUNNING
            assert claim.run_after is None or claim.run_after <= self.now or claim.fence > 1

    def applied(self, applied: frozenset[str], transitions: Sequence[Transition]) -> None:
        """Check that those applied that were decided on the present fence, and that each made a legal move."""
        for transition in transitions:
            before = self.before.get(transition.id)
            assert (transition.id in applied) == (before is not None and before.fence == transition.fence)
            if before is not None and transition.id in applied:
                # One that time made ready meanwhile may be made ready once more.
                assert transition.state in MOVES[before.state] | ({READY} if before.state == READY else set())

    def holds(self, claim: Claim) -> bool:
        record = self.before.get(claim.id)
        return record is not None and record.state == RUNNING and record.fence == claim.fence

    def state_of(self, record: Record) -> str | None:
        return self.before[record.id].state if record.id in self.before else None

    def old(self) -> set[str]:
        return {
            record.id for record in self.before.values() if record.prune_at is not None and record.prune_at <= self.now
        }

    def record(self, *, wait: float | None, expires: float | None, unique: Any, **values: Any) -> Record:
        self.number += 1
        record = new_record(id=f"{self.number:032x}", enqueued_at=self.now, **values)
        if wait is not None:
            record = record._replace(state=DEFERRED, run_after=after(self.now, wait), due_at=after(self.now, wait))
        if expires is not None:
            record = record._replace(expires_at=after(self.now, expires))
        if unique is not None:
            key, scope = unique
            until = after(self.now, 20) if scope == "window" else None
            record = record._replace(unique_key=key, unique_scope=scope, unique_until=until)
        return record


def whole(record: Record) -> None:
    """Check that the fields of a record fit together."""
    assert record.attempts == len(record.worker_ids.split())
    assert record.failures + record.crashes <= record.fence
    assert (record.lease_until is not None) == (record.worker_id != "") == (record.state == RUNNING)
    assert (record.due_at is not None) == (record.state == DEFERRED)
    assert (record.finished_at is not None) == (record.prune_at is not None) == (record.state in FINISHED)
    assert (record.reason != "") == (record.state == "failed")
    assert (record.result is not None) == (record.state == "successful")
    assert record.started_at is None or record.last_attempted_at is not None
    if record.state == RUNNING:
        assert record.attempts >= 1
        assert record.worker_ids.endswith(f"{record.worker_id} ")
        assert record.started_at is not None
    if record.state in FINISHED and record.unique_scope != "window":
        assert record.unique_key is None
    assert label(record)


EXAMPLES = {"default": 100, "postgres": 40}
HASTE = {"default": "PRAGMA synchronous=OFF", "postgres": "SET synchronous_commit = off"}


@pytest.mark.timeout(400)  # A history that breaks a promise is made as short as it goes, which may take minutes.
@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
def test_no_history_breaks_a_promise_and_both_stores_tell_the_same(store_database):
    with connections[store_database].cursor() as cursor:
        # Thousands of commits that no power cut endangers.
        cursor.execute(HASTE[store_database])

    def empty():
        with connections[store_database].cursor() as cursor:
            cursor.execute("DELETE FROM backroom_tasks_taskrecord")

    factory: Any = partial(Histories, SQLStore(store_database, "contract"), empty)
    run_state_machine_as_test(
        factory,
        settings=settings(
            max_examples=EXAMPLES[store_database],
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    connections[store_database].close()
