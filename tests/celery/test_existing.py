"""A project's Celery tasks, enqueued through `django.tasks`."""

from datetime import UTC, datetime
from typing import Any

import pytest
from celery.exceptions import Retry
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask

from backroom.celery import from_celery
from backroom.celery.existing import FOR_EVER, options_of, seconds_asked_for
from backroom.clock import SystemClock, seconds_between
from backroom.tasks.records import DEFERRED
from backroom.testing import run_tasks
from backroom.testing.clock import FakeClock
from tests.celery import existing

DATABASE = "backroom.tasks.backends.database.DatabaseBackend"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _backend(settings):
    settings.TASKS = {"default": {"BACKEND": DATABASE, "QUEUES": []}}


def outcome(celery_task, *args, **kwargs):
    result = from_celery(celery_task).enqueue(*args, **kwargs)
    run_tasks()
    return task_backends["default"].get_result(result.id)


def test_a_celery_task_runs_in_our_worker():
    result = outcome(existing.plain, 40)
    assert result.return_value == 42
    assert result.task.module_path == "tests.celery.existing.plain"


@pytest.mark.parametrize(("celery_task", "value"), [("loud", "hey!"), ("named", "hey")])
def test_bases_and_names_of_its_own_are_heeded(celery_task, value):
    assert outcome(getattr(existing, celery_task), "hey").return_value == value


def test_options_say_what_celery_was_told():
    assert options_of(existing.plain) == {}
    assert options_of(existing.retried) == {
        "max_attempts": 5,
        "backoff": seconds_asked_for,
        "retry_on": (ValueError, OSError, Retry),
        "fail_on": (FileNotFoundError,),
    }
    assert options_of(existing.with_retry_kwargs)["max_attempts"] == 8
    assert options_of(existing.limited) == {"timeout": 30, "expires": 60, "keep_result": False}


@pytest.fixture
def waits():
    """Return a function that runs a Celery task as often as it wants, and returns its waits in seconds."""
    backend: Any = task_backends["default"]
    backend.clock = FakeClock()

    def of(celery_task, *args, **kwargs):
        id_ = from_celery(celery_task).enqueue(*args, **kwargs).id
        found = []
        for _ in range(10):
            run_tasks()
            [record] = backend.store.get([id_])
            if record.state != DEFERRED:
                break
            found.append(round(seconds_between(backend.clock.now(), record.due_at)))
            backend.clock.advance(found[-1] + 1)
        return found

    return of


def test_the_waits_of_autoretry_are_celerys(waits):
    assert waits(existing.evenly) == [2, 4, 5]
    assert waits(existing.with_retry_kwargs) == [9] * 7


@pytest.mark.parametrize("how", [{"countdown": 60}, {"eta": 60}])
def test_a_retry_comes_when_it_was_asked_for(waits, how):
    if "eta" in how:
        # It is a moment of the real clock.
        backend: Any = task_backends["default"]
        backend.clock = FakeClock(SystemClock().now())
    assert waits(existing.asks, **how)[0] == pytest.approx(60, abs=20)


def test_a_retry_that_asks_for_no_wait_comes_after_the_tasks_own(waits):
    assert waits(existing.asks) == [180] * 3


def test_a_retry_may_ask_for_fewer_attempts_than_the_task(waits):
    assert waits(existing.asks, countdown=1, max_retries=1) == [1]
    assert waits(existing.asks_for_fewer) == [5]


@pytest.mark.parametrize(
    "how", [{"queue": "slow"}, {"expires": 5}, {"args": ["other"]}, {"kwargs": {"other": 1}}, {"priority": 3}]
)
def test_a_retry_that_asks_for_what_it_will_not_get_fails_and_says_so(how):
    result = outcome(existing.asks, "word", **how)
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
    assert f"retry({next(iter(how))}=…) means nothing here" in result.errors[0].traceback


def test_a_retry_beyond_the_last_attempt_says_which_option_ends_it():
    result = from_celery(existing.asks, max_attempts=2, backoff=0).enqueue(countdown=0, max_retries=9)
    run_tasks()
    found = task_backends["default"].get_result(result.id)
    assert found.attempts == 2
    assert "max_attempts is 2" in found.errors[-1].traceback


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("rate_limit", "10/m", None),
        ("priority", 9, {"priority": 50}),
        ("expires", datetime(2030, 1, 1, tzinfo=UTC), {"expires": 60}),
        ("routing_key", "mail.slow", {"queue_name": "slow"}),
    ],
)
def test_what_celery_alone_heeds_is_refused_or_said_in_our_words(monkeypatch, name, value, options):
    monkeypatch.setattr(existing.plain, name, value, raising=False)
    with pytest.raises(InvalidTask, match=f"existing.plain has .*{name}"):
        from_celery(existing.plain)
    if options:
        from_celery(existing.plain, **options)


def test_a_queue_of_the_celery_tasks_own_is_the_tasks(monkeypatch):
    monkeypatch.setattr(existing.plain, "queue", "mail", raising=False)
    assert from_celery(existing.plain).queue_name == "mail"


def test_celerys_for_ever_is_a_great_number(monkeypatch):
    monkeypatch.setattr(existing.retried, "max_retries", None)
    assert options_of(existing.retried)["max_attempts"] == FOR_EVER


def test_options_given_win_and_survive_the_store():
    task = from_celery(existing.retried, max_attempts=2, queue_name="slow", priority=7)
    result = task.enqueue("/nowhere/at/all")
    found: Any = task_backends["default"].get_result(result.id)
    assert (found.task.max_attempts, found.task.queue_name, found.task.priority) == (2, "slow", 7)
    assert found.task.retry_on == (ValueError, OSError, Retry)


def test_what_celery_would_retry_our_worker_retries(tmp_path):
    task = from_celery(existing.retried, backoff=0)
    result = task.enqueue(str(tmp_path / "turns"))
    run_tasks()
    found = task_backends["default"].get_result(result.id)
    assert (found.return_value, len(found.errors)) == ("third", 2)


def test_a_bound_task_knows_itself_and_its_retry_is_ours():
    result = outcome(existing.bound)
    assert result.return_value == ["tests.celery.existing.bound", result.id, 2]
    assert [error.exception_class_path for error in result.errors] == ["celery.exceptions.Retry"] * 2
    assert "ValueError" in result.errors[0].traceback


def test_a_bound_task_that_fails_without_asking_for_another_turn_has_failed():
    result = outcome(existing.fails_without_retry)
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
    assert [error.exception_class_path for error in result.errors] == ["builtins.ValueError"]


def test_a_task_learns_from_its_retry_that_it_has_no_more_turns():
    result = outcome(existing.gives_up)
    assert (result.return_value, result.attempts) == ("gave up", 2)


def test_a_retry_for_an_error_that_is_not_among_those_is_one():
    assert outcome(existing.retries_another).return_value == 1


def test_a_task_with_hooks_of_its_own_is_refused():
    with pytest.raises(InvalidTask, match=r"hooked has on_failure of its own.*task_finished"):
        from_celery(existing.hooked)


def test_a_task_that_asks_to_be_ignored_has_come_to_its_end():
    result = outcome(existing.ignored)
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, None)


def test_a_class_is_refused_with_what_to_do():
    with pytest.raises(InvalidTask, match=r"is not found again as tests\.celery\.existing\.Written\.run"):
        from_celery(existing.written)


def test_a_function_within_a_function_is_refused():
    @existing.app.task(name="hidden")
    def hidden():
        pass

    with pytest.raises(InvalidTask, match="is not found again"):
        from_celery(hidden)


def test_what_is_no_celery_task_is_refused():
    with pytest.raises(InvalidTask, match="is no Celery task"):
        from_celery(len)


def test_a_backend_of_djangos_own_gets_a_task_of_its_own(settings):
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
    assert from_celery(existing.plain).enqueue(1, b=1).return_value == 2
