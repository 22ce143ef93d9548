"""Maintenance: what it takes from the dead, what it leaves to the living, and that one odd task stops none of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from backroom.clock import after
from backroom.tasks import maintenance
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.records import FAILED, READY, RUNNING, Crashed, Record, Released, Transition
from backroom.tasks.resolve import Defaults
from backroom.tasks.stores.memory import MemoryStore
from backroom.testing.stores.case import LEASE, NOW, new_record, request, worker
from backroom.upkeep import in_rounds

LATER = after(NOW, LEASE + 1)


@pytest.fixture
def backend() -> Any:
    """A backend on the reference store; `rung` counts the wake-ups."""
    rung: list[None] = []
    return SimpleNamespace(
        store=MemoryStore(),
        alias="default",
        settings=SimpleNamespace(lease=LEASE),
        defaults=Defaults(crash_budget=3, retention=60.0, failed_retention=60.0),
        wake=lambda: rung.append(None),
        rung=rung,
    )


def claimed(backend: Any, count: int, *, worker_id: str = "worker-1") -> list[Record]:
    """Insert so many tasks and let a worker claim them; return them, the oldest first."""
    records = [new_record(backend_name="default", task_path="tests.tasks.work.note") for _ in range(count)]
    backend.store.insert(records)
    return list(backend.store.claim(request(count, worker_id=worker_id)))


def states(backend: Any, records: list[Record]) -> list[str]:
    found = {record.id: record.state for record in backend.store.get([record.id for record in records])}
    return [found[record.id] for record in records]


def test_a_task_that_cannot_be_decided_keeps_none_of_the_others_from_being_moved(backend, caplog):
    odd, *others = claimed(backend, 3)

    def change(record: Record) -> Transition:
        if record.id == odd.id:
            msg = "This one is odd."
            raise RuntimeError(msg)
        return maintenance.decided(backend, record, Crashed(), LATER)

    assert maintenance.move(backend, [odd, *others], change) == 2
    assert states(backend, [odd, *others]) == [RUNNING, READY, READY]
    assert f"action=undecided task_id={odd.id}" in caplog.text
    assert len(backend.rung) == 1


def test_nothing_to_move_writes_nothing_and_wakes_nobody(backend, monkeypatch):
    monkeypatch.setattr(backend.store, "apply", None)
    assert maintenance.move(backend, [], lambda _record: pytest.fail("There is none.")) == 0
    assert backend.rung == []


def test_a_lease_that_ran_out_is_taken_back_and_one_that_did_not_is_left(backend):
    records = claimed(backend, 1)
    assert maintenance.reclaim(backend, after(NOW, LEASE - 1)) == 0
    assert states(backend, records) == [RUNNING]
    assert maintenance.reclaim(backend, LATER) == 1
    assert states(backend, records) == [READY]


def test_what_became_of_a_claim_is_for_who_knows_to_say_and_what_is_only_late_is_left(backend, monkeypatch):
    monkeypatch.setattr(maintenance, "send", lambda *_arguments, **_named: None)
    held, unheard = claimed(backend, 2, worker_id="me")
    (others,) = claimed(backend, 1, worker_id="somebody")
    outcomes = {held.id: None, unheard.id: Released(), others.id: Crashed()}
    maintenance.tidy(backend, LATER, judge=lambda claim: outcomes[claim.id])
    assert states(backend, [held, unheard, others]) == [RUNNING, READY, READY]
    assert [record.crashes for record in backend.store.get([held.id, unheard.id, others.id])] == [0, 0, 1]


def test_what_was_not_started_in_time_fails(backend):
    late = new_record(backend_name="default", task_path="tests.tasks.work.note", expires_at=after(NOW, 1))
    backend.store.insert([late])
    assert maintenance.expire(backend, NOW) == 0
    assert maintenance.expire(backend, LATER) == 1
    assert states(backend, [late]) == [FAILED]


def test_a_worker_is_forgotten_after_four_leases_without_a_word(backend):
    backend.store.beat(
        [worker("alive", seen_at=after(NOW, -4 * LEASE)), worker("gone", seen_at=after(NOW, -4 * LEASE - 1))]
    )
    maintenance.forget_silent(backend, NOW)
    assert [each.id for each in backend.store.workers()] == ["alive"]


def test_more_than_a_batch_is_done_in_one_round_and_what_fails_stops_nothing_else(backend, monkeypatch, caplog):
    monkeypatch.setattr(maintenance, "BATCH", 2)
    rounds: list[str] = []
    monkeypatch.setattr(maintenance, "send", lambda *_arguments, **named: rounds.append(named["using"]))

    def refuse(*_arguments: Any) -> Any:
        msg = "No room."
        raise OSError(msg)

    monkeypatch.setattr(backend.store, "prune", refuse)
    records = claimed(backend, 5)
    maintenance.tidy(backend, LATER)
    assert states(backend, records) == [READY] * 5
    assert "action=prune_failed" in caplog.text
    assert rounds == ["default"]


def test_of_two_backends_the_one_that_is_away_is_told_of_once(monkeypatch, caplog):
    monkeypatch.setattr("backroom.upkeep.connections.close_all", lambda: None)

    @in_rounds
    def step(*, using: str) -> None:
        if using == "away":
            raise StoreUnavailable("nobody listens there")

    for _ in range(3):
        step(using="there")
        step(using="away")
    assert [message.split()[0] for message in caplog.messages] == ["action=upkeep_waits"]
