"""What becomes of an attempt in a Celery worker's process, while that process ends and while two have the same task."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest
from celery import Celery
from django.tasks import task_backends

import backroom.celery.tasks  # noqa: F401 - importing it registers the task
from backroom.celery import from_celery
from backroom.celery.runner import Runner
from backroom.clock import after
from backroom.tasks import task
from backroom.tasks.board import Board, shared_memory
from backroom.tasks.records import RUNNING
from backroom.tasks.transports.celery import TASK
from tests.celery import existing

app = Celery("tests", broker="memory://", set_as_current=False)
pytestmark = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.TASKS = {
        "records": {"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"},
        "default": {
            "BACKEND": "backroom.tasks.backends.celery.CeleryBackend",
            "QUEUES": [],
            "OPTIONS": {"app": f"{__name__}.app", "store": "records", "timeout_grace": 0.01},
        },
    }


runners: list[Runner] = []


def test_no_broker_waits_for_an_answer_while_a_task_runs():
    # RabbitMQ ends a worker that is late with it.
    celery = Celery("late", broker="memory://", set_as_current=False)
    celery.conf.update(task_acks_late=True, task_reject_on_worker_lost=True)
    found = celery.tasks[TASK]
    assert (found.acks_late, found.reject_on_worker_lost) == (False, False)


@pytest.fixture
def runner():
    backend: Any = task_backends["default"]
    runners[:] = [Runner(backend, "here:1:a", Board(shared_memory(4)), threads=4, queues=())]
    return runners[0]


def record_of(result):
    backend: Any = task_backends["default"]
    return backend.store.get([result.id])[0]


def struck():
    msg = "-241"
    raise SystemExit(msg)


@task
def plain():
    struck()


@task(atomic=True)
def atomic():
    struck()


@task
async def in_loop():
    struck()


@task
async def awaits():
    # What strikes the event loop cancels what runs in it.
    asyncio.get_running_loop().call_soon(struck)
    await asyncio.sleep(60)


ALL = pytest.mark.parametrize("struck_task", [plain, atomic, in_loop, awaits], ids=lambda each: each.name)


@ALL
def test_what_the_end_of_the_process_strikes_goes_back(runner, struck_task):
    result = struck_task.enqueue()
    runner.leave_off()
    runner.run(result.id, 0)
    record = record_of(result)
    assert (record.state, record.attempts, record.failures) == ("ready", 0, 0)


def test_a_task_that_exits_by_itself_fails(runner):
    result = atomic.enqueue()
    runner.run(result.id, 0)
    assert (record_of(result).state, record_of(result).attempts) == ("failed", 1)


@task(takes_context=True, timeout=600, max_attempts=3, backoff=0)
def overruns(context):
    """Overrun the hard limit in the first attempt, which is still there while the second one runs, and after it."""
    [runner] = runners
    if context.attempt == 1:
        [(holding, _)] = runner._holdings.running()
        holding.hard_at = time.monotonic() - 1
        runner.give_up_overdue()
        runner.run(context.task_result.id, 1)
    else:
        runner.give_up_overdue()
        runner.give_up_overdue()
    return context.attempt


def test_an_attempt_that_was_given_up_leaves_the_next_one_alone(runner):
    result = overruns.enqueue()
    runner.run(result.id, 0)
    record = record_of(result)
    assert (record.state, record.attempts, record.failures, record.result) == ("successful", 2, 1, "2")


def test_a_celery_task_is_told_in_celerys_words_that_its_time_is_over(runner):
    runner.start()
    result = from_celery(existing.knows_celerys_error).enqueue()
    runner.run(result.id, 0)
    runner.stop()
    assert (record_of(result).state, record_of(result).result) == ("successful", '"cleaned up"')


@pytest.mark.parametrize("is_held", [True, False])
def test_a_claim_that_was_long_on_its_way_is_begun_only_if_it_is_held_still(runner, monkeypatch, is_held):
    result = atomic.enqueue()
    store: Any = runner.backend.store
    claim = runner._claim

    def slowly(task_id, *, is_again):
        claims = [each._replace(lease_until=after(each.lease_until, -60)) for each in claim(task_id, is_again=is_again)]
        if not is_held:
            store.apply([runner.backend.attempts.released(each) for each in claims])
        return claims

    begun: list[None] = []
    monkeypatch.setattr(runner, "_claim", slowly)
    monkeypatch.setattr(sys.modules[__name__], "struck", lambda: begun.append(None))
    runner.run(result.id, 0)
    assert len(begun) == is_held
    assert (record_of(result).state, record_of(result).attempts) == (("successful", 1) if is_held else ("ready", 0))


def test_a_claim_of_this_process_is_not_taken_twice(runner):
    result = plain.enqueue()
    claims = runner._claim(result.id, is_again=False)
    assert [claim.id for claim in runner._claim(result.id, is_again=True)] == [result.id], "the answer was lost"
    runner._holdings.take(claims)
    assert list(runner._claim(result.id, is_again=True)) == []
    assert record_of(result).state == RUNNING
