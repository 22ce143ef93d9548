"""The backends of tests: one runs each task inside enqueue(), the other only remembers what was enqueued."""

from datetime import timedelta
from typing import Any

import pytest
from django.tasks import TaskResultStatus
from django.tasks.exceptions import TaskResultDoesNotExist

from backroom.tasks import enqueue_many
from backroom.tasks.backends import immediate
from backroom.tasks.queries import backend_of
from backroom.testing import run_tasks
from tests.tasks import work


@pytest.fixture(autouse=True)
def _doubles(settings):
    path = "backroom.tasks.backends"
    settings.TASKS = {
        "default": {"BACKEND": f"{path}.dummy.DummyBackend"},
        "immediate": {"BACKEND": f"{path}.immediate.ImmediateBackend"},
    }


def dummy() -> Any:
    return backend_of("default")


def at_once(task):
    return task.using(backend="immediate")


class TestImmediate:
    @pytest.mark.parametrize("task", [work.note, work.note_async], ids=["function", "coroutine"])
    def test_a_task_has_run_before_enqueue_returns(self, task):
        result = at_once(task).enqueue(1)
        assert (result.status, result.attempts, result.return_value) == (TaskResultStatus.SUCCESSFUL, 1, [[1], {}])

    def test_retries_follow_without_their_waits(self):
        result = at_once(work.fail_thrice).enqueue("a")
        assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 3, 3)
        assert work.seen == ["a"] * 3

    def test_what_is_deferred_or_snoozes_waits_for_the_test(self, fake_clock):
        deferred = at_once(work.answer).using(run_after=timedelta(hours=1)).enqueue(1)
        snoozed = at_once(work.snooze_once).enqueue()
        assert [deferred.label, snoozed.label] == ["scheduled", "scheduled"]
        fake_clock.advance(timedelta(hours=1))
        assert [each.return_value for each in run_tasks("immediate")] == [1, "awake"]

    def test_every_option_is_accepted(self):
        assert at_once(work.with_options).enqueue().status == TaskResultStatus.SUCCESSFUL
        assert at_once(work.answer).using(atomic=True).enqueue(3).return_value == 3

    def test_a_unique_task_that_waits_is_joined(self):
        waiting = at_once(work.once).using(run_after=timedelta(hours=1)).enqueue(1)
        assert at_once(work.once).enqueue(1).id == waiting.id
        assert at_once(work.once).enqueue(2).status == TaskResultStatus.SUCCESSFUL

    def test_what_a_task_enqueues_runs_inside_it(self):
        result = at_once(work.once).enqueue(at_once(work.answer).enqueue(5).return_value)
        assert result.args == [5]

    def test_many_run_in_their_order(self):
        results: list[Any] = enqueue_many(at_once(work.note), [((index,), {}) for index in range(3)])
        assert [result.args for result in results] == [[0], [1], [2]]
        assert work.seen == [((index,), {}) for index in range(3)]

    def test_results_can_be_read_again(self):
        result = at_once(work.answer).enqueue(1)
        assert backend_of("immediate").get_result(result.id) == result

    def test_it_forgets_the_oldest_of_many(self, monkeypatch):
        monkeypatch.setattr(immediate, "KEPT", 3)
        results = [at_once(work.answer).enqueue(index) for index in range(5)]
        for gone in results[:2]:
            with pytest.raises(TaskResultDoesNotExist):
                gone.refresh()
        assert [result.refresh() for result in results[2:]] == [None] * 3

    def test_keys_that_are_pressed_are_for_the_caller(self):
        with pytest.raises(KeyboardInterrupt):
            at_once(work.press_keys).enqueue()


class TestDummy:
    def test_it_remembers_and_runs_nothing(self):
        result = work.note.enqueue(1)
        assert dummy().results == [result]
        assert result.status == TaskResultStatus.READY
        assert work.seen == []

    def test_a_test_may_run_what_was_enqueued(self):
        result = work.answer.enqueue(5)
        assert [each.return_value for each in run_tasks()] == [5]
        result.refresh()
        assert result.return_value == 5

    def test_every_option_is_accepted(self):
        first = work.once.using(metadata={"a": 1}, expires=5, max_attempts=3).enqueue()
        assert work.once.enqueue() == first
        assert len(dummy().results) == 1

    def test_it_forgets_when_it_is_told_to(self):
        work.note.enqueue()
        dummy().clear()
        assert dummy().results == []

    @pytest.mark.parametrize("turn", [1, 2])
    def test_each_test_begins_with_nothing(self, turn):
        assert dummy().results == []
        work.note.enqueue(turn)
