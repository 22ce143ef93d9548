"""What the processes of Celery's workers do for a backend between tasks, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.db import connection
from django.tasks import task_backends
from django.test.utils import CaptureQueriesContext

from backroom.celery import upkeep as upkeeps
from backroom.celery.places import Leftover
from backroom.celery.runner import Runner
from backroom.celery.upkeep import TIDY, Upkeep
from backroom.clock import after
from backroom.tasks import enqueue_many
from backroom.tasks.board import Board, shared_memory
from backroom.tasks.records import Worker
from backroom.tasks.stores.base import Request
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


def test_a_claim_that_the_process_never_heard_of_starts_again_though_it_lives(backend, runner):
    claim = claim_long_ago(backend)
    Upkeep(backend, ME, holds=runner.holds).round()
    assert backend.store.get([claim.id])[0].state == "ready"


@pytest.mark.parametrize("is_on_its_way", [False, True])
def test_a_claim_that_the_process_holds_is_late_and_not_lost(backend, runner, is_on_its_way):
    claim = claim_long_ago(backend)
    if is_on_its_way:
        runner._claiming.add(claim.id)
    else:
        runner._holdings.take([claim])
    Upkeep(backend, ME, holds=runner.holds).round()
    assert backend.store.get([claim.id])[0].state == "running"


def test_all_that_a_dead_process_held_starts_again_however_much_it_was(backend):
    enqueue_many(add, [((number, 1), {}) for number in range(150)])
    now = backend.clock.now()
    assert len(backend.store.claim(Request((), 150, "dead", now, after(now, 30)))) == 150
    upkeep = Upkeep(backend, ME)
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
    upkeep = Upkeep(backend, name)
    upkeep.round()
    time[0] = 1.0 + pause - 0.1
    with CaptureQueriesContext(connection) as queries:
        upkeep.round()
    # The first one alone looks in each round, for what is due.
    assert len(queries) == (name == "a")
    time[0] = 1.0 + pause
    upkeep.round()
    assert tidied == [1.0, 1.0 + pause]
