"""The keeper extends every lease in good time, and stops the attempts whose lease was lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from backroom.clock import Moment, after
from backroom.tasks import leases
from backroom.tasks.execution import Execution
from backroom.tasks.leases import CANCEL_TICK, Holdings, Keeper
from backroom.tasks.records import Held, Renewal, Worker
from backroom.testing.clock import FakeClock
from tests.tasks.test_execution import new_execution

LEASE = 30.0


class Store:
    """Notes what is renewed and asked; a test says what is lost and what is to be cancelled."""

    def __init__(self) -> None:
        self.renewed: list[tuple[Sequence[Renewal], Moment]] = []
        self.lost: set[str] = set()
        self.to_cancel: frozenset[str] = frozenset()
        self.asked = 0
        self.beats: list[Worker] = []

    def beat(self, workers: Sequence[Worker]) -> None:
        self.beats += workers

    def renew(self, renewals: Sequence[Renewal], lease_until: Moment) -> Held:
        self.renewed.append((renewals, lease_until))
        return Held(frozenset(each.id for each in renewals if each.id not in self.lost), frozenset())

    def cancelling(self, _worker_id: str) -> frozenset[str]:
        self.asked += 1
        return self.to_cancel


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A keeper with one running attempt, and its clocks."""
    clock, now, store, holdings = FakeClock(), SimpleNamespace(seconds=1_000.0), Store(), Holdings()
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    backend: Any = SimpleNamespace(store=store, settings=SimpleNamespace(lease=LEASE), clock=clock)
    execution = new_execution()
    [holding] = holdings.take([execution.claim])
    holding.execution = execution
    keeper = Keeper(backend, "worker", holdings, queues=("mail",), threads=4)

    def pass_by(seconds: float) -> None:
        now.seconds += seconds
        clock.advance(seconds)
        keeper.keep()

    keeper.keep()
    return SimpleNamespace(
        clock=clock, store=store, execution=execution, holding=holding, holdings=holdings, pass_by=pass_by
    )


def test_a_lease_is_renewed_each_third_of_it_and_no_more_often(kept):
    for _ in range(40):
        kept.pass_by(1)
    claim = kept.execution.claim
    assert [renewals for renewals, _ in kept.store.renewed] == [[Renewal(claim.id, claim.fence)]] * 5
    assert kept.store.renewed[-1][1] == after(kept.clock.now(), LEASE)
    assert len(kept.store.beats) == 5


def test_a_sign_of_life_says_who_it_is_and_how_much_runs(kept):
    kept.pass_by(LEASE / 3)
    kept.holding.execution = None
    kept.pass_by(LEASE / 3)
    first, second, third = kept.store.beats
    assert (first.id, first.queues, first.threads, first.pid) == ("worker", ("mail",), 4, os.getpid())
    assert first.started_at == second.started_at == first.seen_at
    assert third.seen_at == kept.clock.now()
    assert [each.running for each in kept.store.beats] == [1, 1, 0]


def test_progress_is_written_when_there_is_news_and_extends_the_lease_too(kept):
    kept.pass_by(0.25)
    assert len(kept.store.renewed) == 1
    kept.execution.report(1, 2, "half")
    kept.pass_by(0.25)
    [renewal], until = kept.store.renewed[-1]
    assert renewal.progress == '[1, 2, "half"]'
    assert until == after(kept.clock.now(), LEASE)
    kept.pass_by(0.25)
    assert len(kept.store.renewed) == 2


def test_an_attempt_whose_lease_was_lost_is_told_to_stop_once(kept, caplog):
    kept.store.lost = {kept.execution.claim.id}
    with caplog.at_level(logging.WARNING, "backroom.worker"):
        kept.pass_by(LEASE / 3)
        kept.pass_by(LEASE / 3)
    assert kept.execution.is_cancel_requested()
    assert [message.split()[0] for message in caplog.messages] == ["action=lease_lost"]


@pytest.mark.parametrize("step", [3, -3])
def test_an_attempt_is_told_to_stop_whose_task_was_claimed_here_once_more(kept, step):
    claim = kept.execution.claim
    # On PostgreSQL a crash may take a claim back, and its fence with it.
    again = Execution(claim._replace(fence=claim.fence + step), kept.execution.resolved)
    [holding] = kept.holdings.take([again.claim])
    holding.execution = again
    kept.pass_by(LEASE / 3)
    assert kept.execution.is_cancel_requested()
    assert not again.is_cancel_requested()


def test_a_request_to_cancel_is_heard_within_its_tick(kept):
    kept.store.to_cancel = frozenset({kept.execution.claim.id})
    asked = kept.store.asked
    kept.pass_by(CANCEL_TICK / 2)
    assert kept.store.asked == asked
    kept.pass_by(CANCEL_TICK / 2)
    assert kept.execution.is_cancel_requested()
