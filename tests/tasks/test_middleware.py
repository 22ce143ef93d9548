"""The onion round an execution: the project's own layers, for functions and coroutines alike."""

from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
from django.db import connections, transaction

from backroom.tasks.execution import current
from backroom.tasks.middleware import refresh_connections
from backroom.tasks.queries import backend_of
from backroom.testing import run_tasks
from tests.tasks import work

pytestmark = pytest.mark.django_db


@pytest.fixture
def with_layers(settings):
    """Give a function that sets the layers of the default backend."""

    def set_layers(*names):
        options = {"database": "default", "middleware": [f"tests.tasks.work.{name}" for name in names]}
        settings.TASKS = {"default": settings.TASKS["default"] | {"OPTIONS": options}}

    return set_layers


@pytest.mark.parametrize("task", [work.see_layer, work.see_layer_async], ids=["function", "coroutine"])
def test_the_first_layer_is_the_outermost(with_layers, task):
    with_layers("outer", "inner")
    result = task.enqueue()
    run_tasks()
    assert work.seen == [
        ("outer in", result.id),
        ("inner in", "outer"),
        ("task", "outer"),
        ("inner out", "outer"),
        ("outer out", result.id),
    ]


def test_a_layer_sees_the_exception(with_layers):
    with_layers("outer")
    result = work.fail.enqueue()
    run_tasks()
    result.refresh()
    assert work.seen[1:] == [("outer saw", "Refused"), ("outer out", result.id)]
    assert result.label == "failed"


def test_a_layer_that_raises_fails_the_task_and_leaves_what_was_entered(with_layers):
    with_layers("outer", "refusing")
    result = work.note.enqueue()
    run_tasks()
    result.refresh()
    assert result.errors[0].exception_class is work.Refused
    assert [each[0] for each in work.seen] == ["outer in", "outer saw", "outer out"]


def test_the_execution_can_be_asked_for_inside_and_not_outside(with_layers):
    work.report.enqueue()
    assert current.get() is None
    run_tasks()
    assert current.get() is None
    assert len(work.seen) == 1


def test_a_path_that_leads_nowhere_is_told_when_tasks_are_to_be_run(with_layers):
    with_layers("gone")
    work.note.enqueue()
    with pytest.raises(ImportError, match="gone"):
        run_tasks()
    assert backend_of().store.counts() == {("default", "ready"): 1}


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
def test_a_sound_connection_is_kept_from_task_to_task_and_one_that_went_away_is_not():
    def slot():
        connection = connections["default"]
        connection.ensure_connection()
        # As in a worker, whose connections have no age at which they are closed.
        connection.close_at = None
        kept = connection.connection
        refresh_connections()
        assert connections["default"].connection is kept
        connection.errors_occurred = True
        with mock.patch.object(connection, "is_usable", return_value=False):
            refresh_connections()
        assert connections["default"].connection is None
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
        connections["default"].close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(slot).result(30)


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
def test_a_transaction_that_a_task_left_open_ends_before_the_next_one():
    def slot():
        transaction.atomic().__enter__()
        refresh_connections()
        assert not connections["default"].in_atomic_block
        connections["default"].close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(slot).result(30)
