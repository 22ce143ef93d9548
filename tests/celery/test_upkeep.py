"""What the processes of Celery's workers do for a backend between tasks, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.db import OperationalError, connection
from django.tasks import task_backends
from django.test.utils import CaptureQueriesContext

from backroom.celery import runner as runners
from backroom.celery import upkeep as upkeeps
from backroom.celery.places import Leftover
from backroom.celery.runner import Runner
from backroom.celery.upkeep import TIDY, Upkeep
from backroom.clock import after
from backroom.tasks import enqueue_many
from backroom.tasks.board import Board, shared_memory
from backroom.tasks.records import Renewal, Worker
from backroom.tasks.stores.base import Request
from backroom.tasks.stores.sql import SQLStore
from tests.celery.conftest import idle
from tests.processes.jobs import add

app = Celery("tests", broker="memory://", set_as_current=False)
pytestmark = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])

ME = "me:1:a"


@pytest.fixture
def backend(settings) -> Any:
    settings.TASKS = {
        "records": {"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"},
        "default": {
            "BACKEND": "backroom.tasks.backends.celery.CeleryBackend",
            "OPTIONS": {"app": f"{__name__}.app", "store": "records"},
        },
    }
    return task_backends["default"]


@pytest.fixture
def runner(backend) -> Runner:
    return Runner(backend, ME, Board(shared_memory(4)), threads=4, queues=())


def claim_long_ago(backend: Any) -> Any:
    """Claim a task for this worker, whose lease has run out since."""
    add.enqueue(1, 2)
    now = backend.clock.now()
    [claim] = backend.store.claim(Request((), 1, ME, after(now, -100), after(now, -70)))
    return claim


def fate_of(backend: Any, task_id: str) -> tuple[str, int, int]:
    [record] = backend.store.get([task_id])
    return record.state, record.attempts, record.crashes


def test_a_claim_that_the_process_never_heard_of_starts_again_though_it_lives(backend, runner):
    claim = claim_long_ago(backend)
    Upkeep(backend, ME, runner.judge).round()
    # It never began, and so has done nothing wrong.
    assert fate_of(backend, claim.id) == ("ready", 0, 0)


def test_a_claim_of_another_process_that_let_its_lease_run_out_has_crashed(backend):
    claim = claim_long_ago(backend)
    idle(backend, "other:1:a").round()
    assert fate_of(backend, claim.id) == ("ready", 1, 1)


def test_what_nobody_could_write_down_because_the_store_stayed_away_is_no_fault_of_the_tasks(
    backend, runner, monkeypatch
):
    result = add.enqueue(1, 2)

    def away(*_transitions: Any) -> Any:
        raise OperationalError("the server is gone")

    monkeypatch.setattr(runners, "PATIENCE", -1.0)
    with monkeypatch.context() as during:
        during.setattr(SQLStore, "apply", away)
        runner.run(result.id, 0)
    assert let_run_out(backend, runner, result.id) == ("ready", 0, 0)


def refused(*_transitions: Any) -> Any:
    raise ValueError("this change is refused")


def nothing_applied(*_transitions: Any) -> frozenset[str]:
    return frozenset()


@pytest.mark.parametrize("apply", [refused, nothing_applied])
def test_what_the_store_refused_to_write_down_counts_as_a_crash_or_it_would_start_again_for_ever(
    backend, runner, monkeypatch, apply
):
    result = add.enqueue(1, 2)
    with monkeypatch.context() as during:
        during.setattr(SQLStore, "apply", apply)
        runner.run(result.id, 0)
    assert let_run_out(backend, runner, result.id) == ("ready", 1, 1)


def test_so_does_what_ended_without_a_word(backend, runner, monkeypatch):
    def strikes(*_arguments: Any) -> Any:
        raise SystemExit

    result = add.enqueue(1, 2)
    monkeypatch.setattr(runner, "_attempt", strikes)
    with pytest.raises(SystemExit):
        runner.run(result.id, 0)
    assert let_run_out(backend, runner, result.id) == ("ready", 1, 1)


def let_run_out(backend: Any, runner: Runner, task_id: str) -> tuple[str, int, int]:
    """Let the lease of what runs run out, and return what this process makes of it."""
    [claim] = backend.store.get([task_id])
    backend.store.renew([Renewal(claim.id, claim.fence)], after(backend.clock.now(), -1))
    Upkeep(backend, ME, runner.judge).round()
    assert runner.judge.is_unheard_of(claim), "what has been decided is forgotten"
    return fate_of(backend, task_id)


@pytest.mark.parametrize("is_on_its_way", [False, True])
def test_a_claim_that_the_process_holds_is_late_and_not_lost(backend, runner, is_on_its_way):
    claim = claim_long_ago(backend)
    if is_on_its_way:
        runner._claiming.add(claim.id)
    else:
        runner._holdings.take([claim])
    Upkeep(backend, ME, runner.judge).round()
    assert backend.store.get([claim.id])[0].state == "running"


def test_all_that_a_dead_process_held_starts_again_however_much_it_was(backend):
    enqueue_many(add, [((number, 1), {}) for number in range(150)])
    now = backend.clock.now()
    assert len(backend.store.claim(Request((), 150, "dead", now, after(now, 30)))) == 150
    upkeep = idle(backend, ME)
    upkeep.settle_later("dead", Leftover(1, frozenset(), was_ended=False))
    upkeep.round()
    assert backend.store.counts() == {("default", "ready"): 150}


@pytest.mark.parametrize(
    ("name", "others", "pause"),
    [("a", 0, TIDY), ("a", 40, TIDY), ("z", 1, TIDY * 2), ("z", 40, TIDY * 41)],
    ids=["alone", "first", "second", "last"],
)
def test_the_further_back_a_process_stands_in_line_the_more_rarely_it_asks_the_store(
    backend, monkeypatch, name, others, pause
):
    now = backend.clock.now()
    workers = [
        Worker(id=f"b{number}", host="h", pid=1, queues=(), threads=1, started_at=now, seen_at=now)
        for number in range(others)
    ]
    backend.store.beat(workers)
    time = [1.0]
    tidied: list[float] = []
    monkeypatch.setattr(upkeeps, "random", SimpleNamespace(uniform=lambda low, high: (low + high) / 2))
    monkeypatch.setattr(upkeeps, "time", SimpleNamespace(monotonic=lambda: time[0]))
    monkeypatch.setattr(upkeeps, "tidy", lambda *_arguments, **_options: tidied.append(time[0]))
    upkeep = idle(backend, name)
    upkeep.round()
    time[0] = 1.0 + pause - 0.1
    with CaptureQueriesContext(connection) as queries:
        upkeep.round()
    # The first one alone looks in each round, for what is due.
    assert len(queries) == (name == "a")
    time[0] = 1.0 + pause
    upkeep.round()
    assert tidied == [1.0, 1.0 + pause]
