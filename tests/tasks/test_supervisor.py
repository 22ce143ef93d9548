"""What a supervisor does with processes that do not end as they should. The processes are not real, its decisions are."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from backroom.tasks import supervisor
from backroom.tasks.clerk import PATIENCE
from backroom.tasks.process import BURST_PATIENCE, GAVE_UP, ProcessSettings
from backroom.tasks.settling import AWAY, SETTLED, Death
from backroom.tasks.supervisor import EXTRA, SETTLE, SETTLE_AGAIN, Settlement, Supervisor

GRACE = 5.0
NOW = SimpleNamespace(seconds=0.0)
"""The time that passes when a test says so."""


class Process:
    """A process that lives until it is killed or a test lets it end."""

    pid = os.getpid()

    def __init__(self, **_arguments: Any) -> None:
        self.exitcode: int | None = None

    def start(self) -> None:
        """Start nothing."""

    def join(self) -> None:
        """Wait for nothing."""

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        self.exitcode = -signal.SIGKILL


class Child:
    """A worker process as the supervisor knows it."""

    worker_id = "worker"
    is_given_up = False
    killed_for: frozenset[str] = frozenset()
    board = SimpleNamespace(overdue=lambda _now: frozenset())

    def __init__(self, _settings: ProcessSettings) -> None:
        self.process = Process()
        self.started_at = NOW.seconds

    def death(self) -> Death:
        return Death(self.worker_id, frozenset(), self.killed_for, self.is_given_up)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, and what was started; nothing is closed or signalled."""
    started: list[Process] = []
    NOW.seconds, NOW.started = 100.0, started

    def process(**arguments: Any) -> Process:
        started.append(Process(**arguments))
        return started[-1]

    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: NOW.seconds))
    monkeypatch.setattr(supervisor, "_context", SimpleNamespace(Process=process))
    monkeypatch.setattr(supervisor, "close_everything", lambda: None)
    monkeypatch.setattr(supervisor, "gc", SimpleNamespace(collect=lambda: 0, freeze=lambda: None))
    monkeypatch.setattr(supervisor, "Child", Child)
    monkeypatch.setattr(os, "kill", lambda _pid, _number: None)
    return NOW


@pytest.fixture
def supervising(now: SimpleNamespace) -> Supervisor:
    """A supervisor of one process."""
    settings = ProcessSettings("default", (), 1, 1, GRACE, False, None, None, None)
    return Supervisor(settings, 1)


@pytest.mark.parametrize(("is_stopping", "patience"), [(False, SETTLE), (True, PATIENCE)], ids=["working", "stopping"])
def test_a_receiver_that_never_returns_holds_a_stop_no_longer_than_any_other(now, is_stopping, patience):
    settlement = Settlement("default", Death("worker", frozenset()))
    for _ in range(2):
        assert not settlement.is_over(is_stopping=is_stopping)
        assert now.started[0].is_alive()
        now.seconds += patience / 2
    now.seconds += 1
    assert not settlement.is_over(is_stopping=is_stopping)
    assert not now.started[0].is_alive()
    assert settlement.is_over(is_stopping=is_stopping)


def test_a_death_is_settled_again_while_the_store_is_away_but_not_for_one_who_wants_to_stop(now):
    settlement = Settlement("default", Death("worker", frozenset()))
    settlement.is_over(is_stopping=False)
    now.started[-1].exitcode = AWAY
    assert not settlement.is_over(is_stopping=False)
    assert not settlement.is_over(is_stopping=False)
    assert len(now.started) == 1
    now.seconds += SETTLE_AGAIN
    assert not settlement.is_over(is_stopping=False)
    assert len(now.started) == 2
    now.started[-1].exitcode = AWAY
    assert settlement.is_over(is_stopping=True)


def test_a_burst_whose_store_stays_away_says_so_and_leaves_no_death_to_be_settled_for_ever(now, supervising):
    supervising.settings = supervising.settings._replace(is_burst=True)
    supervising._start_missing()
    supervising._children[0].process.exitcode = 1
    supervising._bury()
    supervising._settle_dead()
    now.seconds += BURST_PATIENCE + 1
    now.started[-1].exitcode = AWAY
    supervising._settle_dead()
    supervising._start_missing()
    [child] = supervising._children
    child.process.exitcode = GAVE_UP
    supervising._bury()
    assert (supervising._settlements, supervising._children, supervising._wanted) == ([], [], 0)
    assert supervising._status == GAVE_UP


def test_a_settled_death_is_over(now):
    settlement = Settlement("default", Death("worker", frozenset()))
    settlement.is_over(is_stopping=False)
    now.started[-1].exitcode = SETTLED
    assert settlement.is_over(is_stopping=False)


def test_processes_that_die_at_once_are_replaced_more_and_more_slowly(now, supervising, monkeypatch):
    monkeypatch.setattr(supervisor, "Settlement", lambda *_arguments: None)
    starts = []
    for _ in range(600):
        supervising._start_missing()
        if supervising._children:
            starts.append(now.seconds)
            supervising._children[0].process.exitcode = 1
            supervising._bury()
        now.seconds += 0.1
    pauses = [round(later - earlier, 1) for earlier, later in pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert pauses[-1] == pytest.approx(supervisor.SLOWEST, abs=0.2)


def test_one_that_lived_a_while_is_replaced_at_once(now, supervising, monkeypatch):
    monkeypatch.setattr(supervisor, "Settlement", lambda *_arguments: None)
    supervising._start_missing()
    now.seconds += supervisor.QUICK + 1
    supervising._children[0].process.exitcode = 1
    supervising._bury()
    supervising._start_missing()
    assert len(supervising._children) == 1


def test_a_process_that_does_not_end_in_its_grace_period_is_killed_and_its_tasks_are_not_blamed(now, supervising):
    supervising._start_missing()
    [child] = supervising._children
    supervising.stop()
    supervising._tell()
    now.seconds += GRACE + EXTRA - 0.1
    supervising._end_overdue()
    assert child.process.is_alive()
    now.seconds += 0.2
    supervising._end_overdue()
    assert not child.process.is_alive()
    assert child.death().is_given_up


def test_a_stop_is_said_when_the_processes_have_been_told(supervising, monkeypatch):
    happened = []
    monkeypatch.setattr(os, "kill", lambda _pid, _number: happened.append("told"))
    monkeypatch.setattr(supervisor, "logger", SimpleNamespace(info=lambda *_said: happened.append("said")))
    supervising._start_missing()
    supervising.stop()
    supervising._tell()
    assert happened == ["told", "said"]
