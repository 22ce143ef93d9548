"""The testing kit that projects use: tasks that are run and looked at, a clock, and fixtures that clean up."""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import TestCase

from backroom.tasks import enqueue_many
from backroom.tasks.exceptions import InvalidArguments, NotOurs
from backroom.testing import (
    FakeClock,
    assert_enqueued,
    assert_not_enqueued,
    captured_tasks,
    clear_doubles,
    run_tasks,
)
from tests.tasks import work

pytestmark = pytest.mark.django_db


class TestRunTasks:
    def test_it_runs_what_is_due_until_nothing_is(self):
        work.enqueue_another.enqueue("default")
        work.fail.enqueue()
        work.answer.using(run_after=timedelta(hours=1)).enqueue()
        assert [result.label for result in run_tasks()] == ["successful", "failed", "successful"]
        assert run_tasks() == []

    def test_it_keeps_to_the_queues_asked_for(self, settings):
        settings.TASKS = {"default": settings.TASKS["default"] | {"QUEUES": ["mail", "print"]}}
        work.note.using(queue_name="mail").enqueue(1)
        work.note.using(queue_name="print").enqueue(2)
        run_tasks(queues=["print"])
        assert work.seen == [((2,), {})]

    def test_higher_priorities_run_first(self):
        for priority in (0, 100, -100, 1):
            work.note.using(priority=priority).enqueue(priority)
        run_tasks()
        assert [args for args, _ in work.seen] == [(100,), (1,), (0,), (-100,)]

    def test_it_uses_the_connection_of_the_test(self):
        with transaction.atomic():
            result = work.answer.enqueue(1)
            assert run_tasks()[0].return_value == 1
            transaction.set_rollback(True)
        assert_not_enqueued(work.answer)
        assert result.attempts == 0

    def test_other_backends_are_refused(self, settings):
        settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
        with pytest.raises(NotOurs, match="Use a backend of backroom"):
            run_tasks()


class TestAssertEnqueued:
    def test_it_gives_back_what_it_found(self):
        first, second = work.note.enqueue(1), work.note.enqueue(1, a=(2,))
        work.answer.enqueue()
        assert assert_enqueued(work.note) == [first, second]
        assert assert_enqueued(work.note, args=(1,), kwargs={}) == [first]
        assert assert_enqueued(work.note, kwargs={"a": (2,)}, count=1) == [second]
        assert_enqueued(work.note, count=2)
        assert_enqueued(work.note, args=[7], count=0)
        assert_not_enqueued(work.fail)
        assert_not_enqueued(work.note, args=[7])

    def test_the_message_says_what_there_is(self):
        work.note.enqueue(1, a=2)
        with pytest.raises(AssertionError) as caught:
            assert_enqueued(work.note, args=[2])
        assert str(caught.value) == (
            "tests.tasks.work.note with args=[2] was enqueued 0 times; expected: at least once. "
            "All that was enqueued of it:\n  args=[1] kwargs={'a': 2} READY"
        )
        with pytest.raises(AssertionError, match=r"was enqueued 1 times; expected: 0 times"):
            assert_not_enqueued(work.note)
        with pytest.raises(AssertionError, match=r"(?s)All that was enqueued of it:\n  nothing"):
            assert_enqueued(work.answer)

    def test_a_long_list_is_cut(self):
        for index in range(25):
            work.note.enqueue(index)
        with pytest.raises(AssertionError, match="… and 5 more"):
            assert_enqueued(work.note, count=1)

    def test_arguments_that_nothing_could_be_enqueued_with_are_a_mistake(self):
        with pytest.raises(InvalidArguments):
            assert_enqueued(work.note, args=[object()])

    def test_many_pages_are_read(self):
        enqueue_many(work.note, [((index,), {}) for index in range(1_001)])
        assert len(assert_enqueued(work.note, count=1_001)) == 1_001


class TestCapturing:
    def test_it_takes_what_the_block_enqueues(self, settings):
        settings.TASKS = settings.TASKS | {"theirs": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
        work.note.enqueue("before")
        with captured_tasks() as tasks:
            first = work.note.enqueue(1)
            theirs = work.answer.using(backend="theirs").enqueue(2)
        work.note.enqueue("after")
        assert tasks == [first, theirs]
        assert_enqueued(work.note, args=[1], count=1, among=tasks)
        assert_not_enqueued(work.fail, among=tasks)

    def test_an_exception_ends_it(self):
        with pytest.raises(ValueError, match="no"), captured_tasks() as tasks:
            raise ValueError("no")
        work.note.enqueue()
        assert tasks == []


class TestFixtures:
    def test_the_clock_stands_still_and_moves_tasks_when_it_is_moved(self, fake_clock):
        result = work.answer.using(run_after=timedelta(days=3)).enqueue(1)
        assert isinstance(fake_clock, FakeClock)
        assert result.enqueued_at == fake_clock.today()
        fake_clock.advance(timedelta(days=3) - timedelta(microseconds=1))
        assert run_tasks() == []
        fake_clock.advance(timedelta(microseconds=1))
        (finished,) = run_tasks()
        assert finished.finished_at == fake_clock.today()

    def test_a_list_fills_with_what_is_enqueued(self, enqueued_tasks):
        result = work.note.enqueue()
        assert enqueued_tasks == [result]

    def test_doubles_can_be_emptied(self, settings):
        settings.TASKS = {"default": {"BACKEND": "backroom.tasks.backends.dummy.DummyBackend"}}
        work.note.enqueue()
        clear_doubles()
        assert_not_enqueued(work.note)


class InAClass(TestCase):
    """A test case as Django's users write them."""

    def test_tasks_run_inside_its_transaction(self):
        result = work.answer.enqueue(5)
        with self.captureOnCommitCallbacks(execute=True):
            run_tasks()
        result.refresh()
        assert result.return_value == 5


def test_the_plugin_needs_no_settings():
    code = "import backroom.testing.plugin, sys; assert not any(name.startswith('django') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_pytest_loads_the_plugin_where_backroom_is_installed(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("backroom")
