"""What a worker process does when its store answers badly, or not at all. The store is real, its answers are not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DataError, OperationalError
from django.tasks.signals import task_finished

from backroom.clock import after
from backroom.tasks import absences, enqueue_many
from backroom.tasks import process as process_module
from backroom.tasks.attempts import Attempt
from backroom.tasks.backends.base import Backend
from backroom.tasks.board import Board, shared_memory
from backroom.tasks.process import ProcessSettings, WorkerProcess
from backroom.tasks.records import Claim, Held, Query, Renewal, hold_of
from backroom.tasks.stores.base import Exchange, Request
from backroom.tasks.transports.wakeups import Listener, Silence
from tests.tasks import work
from tests.tasks.test_backends import on

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])


class Answers:
    """A store whose answers to `exchange` and `apply` a test may change."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[str] = []
        self.exchange: Callable[..., Exchange] = store.exchange
        self.apply: Callable[..., frozenset[str]] = store.apply
        self.renew: Callable[..., Held] = store.renew

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def answers(backend, monkeypatch):
    """Give the store's stand-in, which the backend uses from now on."""
    answers = Answers(backend.store)
    monkeypatch.setattr(type(backend), "store", property(lambda _backend: answers))
    backend.__dict__.pop("attempts", None)
    yield answers
    backend.__dict__.pop("attempts", None)


def worker_settings(backend: Backend) -> ProcessSettings:
    return ProcessSettings(
        backend=backend.alias,
        queues=("default",),
        threads=1,
        coroutines=1,
        grace=5,
        is_burst=True,
        max_tasks=None,
        max_memory_growth=None,
        parent=None,
    )


def work_off(backend: Backend) -> WorkerProcess:
    """Work here until nothing is due."""
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    worker.run()
    return worker


def states(backend: Backend) -> Counter[str]:
    return Counter(record.state for record in backend.store.find(Query()).records)


def test_a_change_that_the_store_refuses_harms_no_other(backend, answers, caplog):
    enqueue_many(on(backend, work.note), [((number,), {}) for number in range(5)])
    refused = min(record.id for record in backend.store.find(Query()).records)
    exchange: Any = answers.exchange
    apply: Any = answers.apply

    def picky_exchange(transitions: Any, request: Request | None) -> Any:
        if any(transition.id == refused for transition in transitions):
            raise DataError("no such character")
        return exchange(transitions, request)

    def picky_apply(transitions: Any) -> Any:
        if any(transition.id == refused for transition in transitions):
            raise DataError("no such character")
        return apply(transitions)

    answers.exchange, answers.apply = picky_exchange, picky_apply
    worker = work_off(backend)
    # The one that is refused is left to its lease, and is none that was never heard of.
    worker._recover()
    assert states(backend) == {"successful": 4, "running": 1}
    assert sorted(args for args, _kwargs in work.seen) == [(number,) for number in range(5)]
    assert [line for line in caplog.messages if "action=refused" in line and refused in line]
    assert not [line for line in caplog.messages if "store_away" in line]


def test_claims_whose_confirmation_was_lost_are_given_back_before_anything_is_claimed(backend, answers, monkeypatch):
    monkeypatch.setattr(absences, "FIRST", 0.001)
    enqueue_many(on(backend, work.note), [((number,), {}) for number in range(3)])
    exchange = answers.exchange
    running_before_claims = []

    def cut_off_once(transitions: Any, request: Request | None) -> Any:
        if request is not None:
            running_before_claims.append(states(backend)["running"])
        answer = exchange(transitions, request)
        if answer.claims and len(running_before_claims) == 1:
            raise OperationalError("the connection was lost after the commit")
        return answer

    answers.exchange = cut_off_once
    work_off(backend)
    assert states(backend) == {"successful": 3}
    # Nothing was left with a lease to wait for when the next ones were claimed, and no attempt was counted.
    assert running_before_claims[:2] == [0, 0]
    assert {record.attempts for record in backend.store.find(Query()).records} == {1}


def test_all_claims_that_a_worker_never_heard_of_are_given_back_however_many(backend):
    enqueue_many(on(backend, work.note), [((number,), {}) for number in range(1_200)])
    now = backend.clock.now()
    claims = backend.store.claim(Request((), 1_200, "the worker", now, after(now, 30)))
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    worker._holdings.take(claims[:2])
    worker._recover()
    assert backend.store.counts() == {("default", "ready"): 1_198, ("default", "running"): 2}


def test_a_claim_that_arrives_long_after_it_was_given_up_is_found_and_given_back(backend, answers):
    on(backend, work.note).enqueue(1)
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    exchange = answers.exchange
    now = backend.clock.now()
    given_up = Request((), 1, "the worker", now, after(now, 30))

    def cut_off(*_asked: Any) -> Any:
        raise OperationalError("the connection was lost before the request arrived")

    answers.exchange = cut_off
    assert worker._exchange(1) == []
    answers.exchange = exchange
    # Back again, and nothing is amiss yet.
    assert worker._exchange(0) == []
    assert states(backend) == {"ready": 1}
    assert len(backend.store.claim(given_up)) == 1
    assert worker._longest_wait(is_asking=True) <= absences.LOOK_AGAIN
    worker._absences._look_at = 0.0
    assert worker._exchange(0) == []
    assert states(backend) == {"ready": 1}
    assert attempts(backend) == [0]
    # After a lease it looks once more, and then no more.
    worker._absences._doubts_until = worker._absences._look_at = 0.0
    assert backend.store.claim(given_up)
    worker._exchange(0)
    assert states(backend) == {"ready": 1}
    assert backend.store.claim(given_up)
    worker._exchange(0)
    assert states(backend) == {"running": 1}
    assert worker._longest_wait(is_asking=True) > absences.LOOK_AGAIN


def test_an_end_whose_confirmation_was_lost_is_announced_all_the_same(backend, answers, monkeypatch, caplog):
    monkeypatch.setattr(absences, "FIRST", 0.001)
    enqueue_many(on(backend, work.note), [((number,), {}) for number in range(3)])
    exchange: Any = answers.exchange
    cut_off: list[str] = []
    told: list[str] = []

    def cut_off_once(transitions: Any, request: Request | None) -> Any:
        answer = exchange(transitions, request)
        if transitions and not cut_off:
            cut_off.extend(transition.id for transition in transitions)
            raise OperationalError("the connection was lost after the commit")
        return answer

    def tell(*, task_result: Any, **_kwargs: Any) -> None:
        told.append(task_result.id)

    answers.exchange = cut_off_once
    task_finished.connect(tell)
    try:
        work_off(backend)
    finally:
        task_finished.disconnect(tell)
    assert cut_off
    assert sorted(told) == sorted(record.id for record in backend.store.find(Query()).records)
    assert states(backend) == {"successful": 3}
    assert not [line for line in caplog.messages if "lease_lost" in line]


def test_a_burst_does_not_end_before_it_has_asked_whether_there_is_more(backend, monkeypatch):
    on(backend, work.note).enqueue(1)
    room = WorkerProcess._room
    # Full when it looked, and empty by the time it was told what had ended.
    rooms = [0]
    monkeypatch.setattr(WorkerProcess, "_room", lambda worker: rooms.pop() if rooms else room(worker))
    work_off(backend)
    assert states(backend) == {"successful": 1}


def test_a_burst_waits_for_its_store_and_gives_up_when_nothing_runs(backend, answers, monkeypatch, caplog):
    monkeypatch.setattr(absences, "FIRST", 0.001)
    monkeypatch.setattr(absences, "MOST", 0.001)
    tries: list[None] = []

    def away(*_asked: Any) -> Any:
        tries.append(None)
        if len(tries) == 10:
            monkeypatch.setattr(process_module, "BURST_PATIENCE", 0.0)
        raise OperationalError("nobody listens there")

    answers.exchange = away
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    assert worker.run() == process_module.GAVE_UP
    assert len(tries) >= 10
    assert len([line for line in caplog.messages if "action=gave_up" in line]) == 1


def test_a_burst_gives_up_no_task_that_runs(backend, monkeypatch):
    monkeypatch.setattr(process_module, "BURST_PATIENCE", 0.0)
    on(backend, work.note).enqueue(1)
    now = backend.clock.now()
    claims = backend.store.claim(Request((), 1, "the worker", now, after(now, 30)))
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    worker._holdings.take(claims)
    worker._store_is_away(OperationalError("nobody listens there"))
    assert not worker._has_waited_in_vain()
    worker._holdings.drop(claims)
    assert worker._has_waited_in_vain()


def test_a_burst_whose_store_is_back_in_time_does_its_work(backend, answers, monkeypatch):
    monkeypatch.setattr(absences, "FIRST", 0.001)
    on(backend, work.note).enqueue(1)
    exchange = answers.exchange
    tries: list[None] = []

    def away_at_first(*asked: Any) -> Any:
        tries.append(None)
        if len(tries) < 5:
            raise OperationalError("nobody listens there")
        return exchange(*asked)

    answers.exchange = away_at_first
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    assert worker.run() == process_module.DONE
    assert states(backend) == {"successful": 1}


def test_a_worker_that_is_no_burst_waits_for_its_store_as_long_as_it_takes(backend, answers, monkeypatch):
    monkeypatch.setattr(absences, "FIRST", 0.001)
    monkeypatch.setattr(process_module, "BURST_PATIENCE", 0.0)
    tries: list[None] = []
    worker = WorkerProcess(worker_settings(backend)._replace(is_burst=False), "the worker", Board(shared_memory(2)))

    def away(*_asked: Any) -> Any:
        tries.append(None)
        if len(tries) == 5:
            worker.stop()
        raise OperationalError("nobody listens there")

    answers.exchange = away
    assert worker.run() == process_module.DONE


def test_a_claim_that_a_worker_never_heard_of_starts_again_though_it_alone_is_there(backend):
    on(backend, work.note).enqueue(1)
    now = backend.clock.now()
    [claim] = backend.store.claim(Request((), 1, "the worker", after(now, -100), after(now, -70)))
    WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))._tidy()
    [record] = backend.store.get([claim.id])
    # It never began, and so has done nothing wrong.
    assert (record.state, record.attempts, record.crashes) == ("ready", 0, 0)


def test_a_claim_that_was_left_to_its_lease_had_begun_and_is_noted_no_longer_than_that(backend, answers):
    enqueue_many(on(backend, work.note), [((number,), {}) for number in range(2)])
    now = backend.clock.now()
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    claims = backend.store.claim(Request((), 2, "the worker", after(now, -100), after(now, 600)))
    worker._holdings.take(claims)
    worker._unsettled = [backend.attempts.lost(claim) for claim in claims]
    worker._settle(frozenset())
    # The one's lease runs out before the other's.
    backend.store.renew([Renewal(claims[0].id, claims[0].fence)], after(now, -70))
    worker._tidy()
    assert [(each.state, each.crashes) for each in backend.store.get([claim.id for claim in claims])] == [
        ("ready", 1),
        ("running", 0),
    ]
    assert worker._judge._left == {hold_of(claims[1])}
    backend.store.apply([backend.attempts.released(claims[1])])
    worker._tidy()
    assert worker._judge._left == set()


@pytest.mark.parametrize("left", [-1, 14])
def test_of_claims_that_were_long_on_their_way_only_those_are_begun_that_are_held_still(backend, caplog, left):
    enqueue_many(on(backend, work.note), [((number,), {}) for number in range(2)])
    now = backend.clock.now()
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    claims = backend.store.claim(Request((), 2, "the worker", after(now, left - 30), after(now, left)))
    backend.store.apply([backend.attempts.released(claims[0])])
    worker._hand_out(claims)
    assert list(worker._holdings) == [hold_of(claims[1])]
    assert (backend.store.get([claims[1].id])[0].lease_until or 0) >= after(now, 30)
    assert [line for line in caplog.messages if "action=claims_late tasks=2 lost=1" in line]


def test_late_claims_of_a_store_that_is_away_are_begun_by_nobody_and_given_back(backend, answers):
    on(backend, work.note).enqueue(1)
    now = backend.clock.now()
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    claims = backend.store.claim(Request((), 1, "the worker", after(now, -40), after(now, -10)))

    def away(*_asked: Any) -> Any:
        raise OperationalError("nobody listens there")

    answers.renew = away
    worker._hand_out(claims)
    assert not worker._holdings
    worker._exchange(0)
    [record] = backend.store.get([claims[0].id])
    assert (record.state, record.attempts, record.crashes) == ("ready", 0, 0)


def test_claims_that_arrive_as_they_should_are_not_asked_for_once_more(backend, answers):
    on(backend, work.note).enqueue(1)
    answers.renew = lambda *_asked: pytest.fail("It has a whole lease left.")
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    worker._hand_out(worker._exchange(1))
    assert len(worker._holdings) == 1


def test_a_claim_that_a_worker_holds_is_late_and_not_lost(backend):
    on(backend, work.note).enqueue(1)
    now = backend.clock.now()
    claims = backend.store.claim(Request((), 1, "the worker", after(now, -100), after(now, -70)))
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    worker._holdings.take(claims)
    worker._tidy()
    assert backend.store.get([claims[0].id])[0].state == "running"


def test_an_attempt_that_lost_its_lease_ends_beside_the_next_one_of_its_task_and_harms_it_not(backend, answers):
    on(backend, work.note).enqueue(1)
    now = backend.clock.now()
    claim_once = Request((), 1, "the worker", now, after(now, 30))
    worker = WorkerProcess(worker_settings(backend), "the worker", Board(shared_memory(2)))
    [first] = worker._holdings.take(backend.store.claim(claim_once))
    # Another worker took it for dead; then it came here once more.
    backend.store.apply([backend.attempts.released(first.claim)])
    [second] = worker._holdings.take(backend.store.claim(claim_once))
    batches = []
    exchange: Any = answers.exchange

    def noting(transitions: Any, request: Any) -> Any:
        batches.append([transition.fence for transition in transitions])
        return exchange(transitions, request)

    answers.exchange = noting
    ends = [Attempt(holding.claim, backend.attempts.released(holding.claim)) for holding in (first, second)]
    for end in ends:
        worker._take_in(end)
    worker._exchange(0)
    assert [holding.claim for holding in worker._holdings.values()] == [second.claim]
    worker._tidy()
    worker._exchange(0)
    assert batches == [[first.claim.fence], [second.claim.fence]]
    assert not worker._holdings
    assert states(backend) == {"ready": 1}


def test_what_a_ring_told_of_is_claimed_alone_and_what_else_there_is_right_after_it(backend, answers, monkeypatch):
    requests: list[Request] = []
    exchange: Any = answers.exchange

    def noted(transitions: Any, request: Request | None) -> Any:
        if request is not None:
            requests.append(request)
        return exchange(transitions, request)

    answers.exchange = noted
    worker = WorkerProcess(worker_settings(backend)._replace(is_burst=False), "the worker", Board(shared_memory(2)))
    monkeypatch.setattr(worker, "_listener", Silence())
    wait = worker._wait
    waits: list[int] = []

    def rung_once(room: int = 0) -> Any:
        waits.append(len(requests))
        if len(waits) == 1:
            enqueue_many(on(backend, work.note), [((number,), {}) for number in range(3)])
            return "heard"
        if states(backend) == {"successful": 3}:
            worker.finish()
        return wait(room)

    monkeypatch.setattr(worker, "_wait", rung_once)
    worker.run()
    assert states(backend) == {"successful": 3}
    rung = waits[0]
    assert [index for index, request in enumerate(requests) if request.is_rung] == [rung]
    assert (requests[rung].limit, requests[rung].is_expected) == (1, True)
    # It asks again, for what has come due too, before it waits.
    assert waits[1] > rung + 1


class Courier(Listener):
    """A listener that brings what it finds in the store when the worker is about to wait; `mishap` says otherwise."""

    def __init__(self, store: Any, mishap: str = "") -> None:
        self.worker: WorkerProcess | None = None
        self._store = store
        self._mishap = mishap
        self._sent: Request | None = None
        self._claims: list[Claim] | None = None
        self._has_missed = False
        self._reader, self._writer = os.pipe()
        os.write(self._writer, b"!")

    @property
    def takes_requests(self) -> bool:
        return True

    @property
    def asked(self) -> int:
        return self._sent.limit if self._sent and self._claims is not None else 0

    def open(self) -> None: ...

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def send(self, request: Request) -> None:
        self._sent = request

    def fileno(self) -> int:
        assert self.worker is not None
        if self._claims is None and self._sent is not None:
            self._claims = self._store.claim(self._sent)
            if self._claims and self._mishap == "lost":
                self._claims, self._has_missed, self._mishap = None, True, ""
            elif not self._claims or self._mishap == "late":
                self.worker.stop()
        return self._reader

    def hear(self) -> bool:
        return bool(self._claims) and self._mishap != "late"

    def brought(self) -> list[Claim] | None:
        if self._mishap == "late":
            return None
        return self.call_back()

    def call_back(self) -> list[Claim]:
        claims, self._claims = self._claims or [], None
        return claims

    def has_missed(self) -> bool:
        has_missed, self._has_missed = self._has_missed, False
        return has_missed


@pytest.fixture
def work_with(backend, monkeypatch):
    """Give a function that lets a worker wait for a courier, enqueues a task when it does, and works until all is done."""

    def wait_for(mishap: str = "") -> Counter[str]:
        courier = Courier(backend.store, mishap)
        monkeypatch.setattr(type(backend), "listener", lambda _backend: courier)
        settings = worker_settings(backend)._replace(is_burst=False)
        courier.worker = WorkerProcess(settings, "the worker", Board(shared_memory(2)))
        send = courier.send

        def enqueue_and_send(request: Request) -> None:
            if not backend.store.counts():
                on(backend, work.note).enqueue(1)
            send(request)

        monkeypatch.setattr(courier, "send", enqueue_and_send)
        courier.worker.run()
        return states(backend)

    return wait_for


def attempts(backend: Backend) -> list[int]:
    return [record.attempts for record in backend.store.find(Query()).records]


def test_what_the_listener_brings_is_run(backend, answers, work_with):
    claimed: list[Claim] = []
    exchange: Any = answers.exchange

    def watched_exchange(transitions: Any, request: Request | None) -> Any:
        answer = exchange(transitions, request)
        claimed.extend(answer.claims)
        return answer

    answers.exchange = watched_exchange
    assert work_with() == {"successful": 1}
    assert claimed == []


def test_a_worker_that_stops_gives_back_what_its_listener_was_sent_for(backend, work_with):
    assert work_with("late") == {"ready": 1}
    assert attempts(backend) == [0]


def test_what_a_lost_request_has_claimed_is_given_back_and_started(backend, work_with):
    assert work_with("lost") == {"successful": 1}
    assert attempts(backend) == [1]
