"""The contract of django.tasks, and what goes beyond it, on each database."""

import asyncio
import logging
import pickle
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.tasks import TaskResultStatus, task_backends
from django.tasks.base import Task as DjangoTask
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backroom.tasks import TaskResult, enqueue_many
from backroom.tasks.backends import base
from backroom.tasks.exceptions import InvalidArguments, NotOurs, StoreUnavailable
from backroom.tasks.models import TaskRecord
from backroom.tasks.resolve import UnknownTask
from backroom.tasks.stores.sql import SQLStore
from backroom.testing import run_tasks
from tests.tasks import work

real_commits = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])


def on(backend: Any, task: Any, **changes: Any) -> Any:
    return task.using(backend=backend.alias, **changes)


class TestEnqueue:
    def test_it_answers_with_a_result_that_is_ready(self, backend, fake_clock):
        result = on(backend, work.note).enqueue(1, two=(2, 3))
        assert isinstance(result, TaskResult)
        assert result.status == TaskResultStatus.READY
        assert (result.args, result.kwargs) == ([1], {"two": [2, 3]})
        assert (result.backend, result.attempts, result.errors, result.label) == (backend.alias, 0, [], "ready")
        assert result.enqueued_at == fake_clock.today()
        assert [result.started_at, result.finished_at, result.last_attempted_at, result.progress] == [None] * 4

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"priority": 100},
            {"priority": -100},
            {"run_after": timedelta(days=1)},
            {"run_after": datetime(2020, 1, 1, tzinfo=UTC)},
            {"max_attempts": 7},
            {"backoff": 1.5},
            {"backoff": (1, 2)},
            {"backoff": work.four_seconds},
            {"retry_on": (OSError, LookupError)},
            {"fail_on": (work.Refused,)},
            {"timeout": 2},
            {"timeout": None},
            {"expires": 5},
            {"expires": timedelta(days=1)},
            {"expires": None},
            {"keep_result": False},
            {"keep_result": 5.5},
            {"atomic": True},
            {"metadata": {"a": [1, {"b": None}]}},
            {"metadata": {}},
        ],
        ids=lambda changes: str(changes).partition(" at 0x")[0],
    )
    @pytest.mark.parametrize("task", [work.note, work.with_options], ids=["plain", "with options"])
    def test_what_is_read_again_equals_what_was_enqueued(self, backend, task, changes):
        changed = on(backend, task, **changes)
        result = changed.enqueue()
        assert backend.get_result(result.id) == result
        assert result.task == changed
        assert changed.get_result(result.id) == result

    def test_a_result_can_be_pickled(self, backend):
        result = on(backend, work.with_options, metadata={"a": 1}).enqueue()
        assert pickle.loads(pickle.dumps(result)) == result
        on(backend, work.answer).enqueue(5)
        (finished,) = run_tasks(backend.alias, queues=["default"])[-1:]
        again = pickle.loads(pickle.dumps(finished))
        assert again == finished
        assert again.return_value == 5

    def test_results_sort_by_when_they_were_enqueued(self, backend):
        ids = [on(backend, work.note).enqueue().id for _ in range(5)]
        assert ids == sorted(ids)
        assert all(len(id_) < 64 for id_ in ids)

    def test_a_deferred_task_says_so_and_waits(self, backend, fake_clock):
        result = on(backend, work.answer, run_after=timedelta(hours=1)).enqueue(1)
        assert (result.status, result.label) == (TaskResultStatus.READY, "scheduled")
        assert run_tasks(backend.alias) == []
        fake_clock.advance(timedelta(hours=1))
        (ran,) = run_tasks(backend.alias)
        assert ran.return_value == 1
        assert ran.task.run_after == result.task.run_after

    def test_a_moment_that_has_passed_is_now(self, backend):
        result = on(backend, work.answer, run_after=timezone.now() - timedelta(days=1)).enqueue(1)
        assert result.label == "ready"
        assert len(run_tasks(backend.alias)) == 1

    def test_an_unknown_result_does_not_exist(self, backend):
        for unknown in ("unknown", 123, "x" * 1000, ""):
            with pytest.raises(TaskResultDoesNotExist):
                backend.get_result(unknown)

    def test_a_result_of_another_task_does_not_match(self, backend):
        result = on(backend, work.note).enqueue()
        with pytest.raises(TaskResultMismatch):
            on(backend, work.answer).get_result(result.id)

    def test_a_queue_name_of_any_length_fits_or_is_refused(self, backend, settings):
        settings.TASKS = {alias: params | {"QUEUES": []} for alias, params in settings.TASKS.items()}
        assert on(backend, work.note, queue_name="q" * 128).enqueue().task.queue_name == "q" * 128
        with pytest.raises(InvalidTask, match="longer than 128"):
            on(backend, work.note, queue_name="q" * 129)


class TestArguments:
    @pytest.mark.parametrize("name", ["a\0b", "\ud800", "a\nb", "\x1b[2J"], ids=ascii)
    def test_a_queue_name_that_cannot_be_printed_is_refused(self, backend, settings, name):
        settings.TASKS = settings.TASKS | {backend.alias: settings.TASKS[backend.alias] | {"QUEUES": []}}
        with pytest.raises(InvalidTask, match="cannot be printed"):
            on(backend, work.note, queue_name=name)

    def test_queue_names_that_are_made_up_as_the_site_runs_cost_no_memory(self, backend, settings, monkeypatch):
        monkeypatch.setattr(base, "KEPT_VALID", 20)
        settings.TASKS = settings.TASKS | {backend.alias: settings.TASKS[backend.alias] | {"QUEUES": []}}
        renewed: Any = task_backends[backend.alias]
        for number in range(100):
            renewed.validate_task(on(backend, work.note, queue_name=f"customer-{number}"))
            assert len(renewed._valid) <= 20

    def test_a_result_has_every_field(self, backend):
        """Results are made past the class's own `__init__`: a field that a newer Django adds must not stay empty."""
        for result in (on(backend, work.note).enqueue(1), *enqueue_many(on(backend, work.note), [((1,), {})])):
            assert replace(result, args=[1]) == result
            for each in fields(result):
                getattr(result, each.name)

    @pytest.mark.parametrize(
        ("args", "kwargs", "words"),
        [
            ([float("nan")], {}, "argument 1 is nan"),
            ([], {"rate": float("inf")}, "argument 'rate' is inf"),
            ([], {"rows": {1: "a"}}, "argument 'rows' has the key 1"),
            ([object()], {}, "as argument 1"),
            ([1, "x" * 2_000_000], {}, "argument 2; the limit is 1,048,576"),
        ],
    )
    def test_what_cannot_travel_is_refused_by_name_and_nothing_is_stored(self, backend, args, kwargs, words):
        with pytest.raises(InvalidArguments) as caught:
            on(backend, work.note).enqueue(*args, **kwargs)
        assert words in str(caught.value)
        with pytest.raises(InvalidArguments):
            enqueue_many(on(backend, work.note), [((1,), {}), (args, kwargs)])
        assert backend.store.counts() == {}

    def test_metadata_that_cannot_travel_is_refused_by_name(self, backend):
        task = on(backend, work.note, metadata={"at": {"when": datetime(2026, 1, 1, tzinfo=UTC)}})
        with pytest.raises(InvalidArguments, match="metadata"):
            task.enqueue()

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("\0", id="nul"),
            pytest.param("\ud800", id="surrogate"),
            pytest.param("🦊", id="emoji"),
            pytest.param("日本", id="kanji"),
            pytest.param("%s %(a)s {b} $1 \\ ' \"", id="quotes"),
            pytest.param(2**70, id="integer"),
            pytest.param(-0.0, id="minus nought"),
            pytest.param(1e300, id="float"),
            pytest.param([[]], id="lists"),
            pytest.param({"": {"\0": None}}, id="dicts"),
            pytest.param("x" * 500_000, id="long"),
        ],
    )
    def test_every_json_value_arrives_as_it_left(self, backend, value):
        result = on(backend, work.note).enqueue(value, value=value)
        assert (result.args, result.kwargs) == ([value], {"value": value})
        (finished,) = run_tasks(backend.alias)
        assert work.seen == [((value,), {"value": value})]
        assert finished.return_value == [[value], {"value": value}]


class TestEnqueueMany:
    def test_results_come_in_the_order_of_the_calls(self, backend):
        results: list[Any] = enqueue_many(on(backend, work.note), [((index,), {"k": index}) for index in range(20)])
        assert [result.args for result in results] == [[index] for index in range(20)]
        run_tasks(backend.alias)
        assert work.seen == [((index,), {"k": index}) for index in range(20)]
        assert [backend.get_result(result.id).id for result in results] == [result.id for result in results]

    @real_commits
    def test_thousands_take_a_handful_of_statements(self, backend):
        with CaptureQueriesContext(connections[backend.alias]) as captured:
            results: list[Any] = enqueue_many(on(backend, work.note), (((index,), {}) for index in range(5_000)))
        assert len(captured) <= 5
        assert len({result.id for result in results}) == 5_000
        assert backend.store.counts() == {("default", "ready"): 5_000}

    @real_commits
    def test_one_takes_one_statement(self, backend):
        with CaptureQueriesContext(connections[backend.alias]) as captured:
            on(backend, work.note).enqueue()
        assert len(captured) == 1

    def test_none_are_none(self, backend):
        assert enqueue_many(on(backend, work.note), []) == []

    def test_other_backends_are_refused(self, settings):
        settings.TASKS = settings.TASKS | {"theirs": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
        with pytest.raises(NotOurs, match=r"TASKS\['theirs'\] is django.tasks.backends.dummy.DummyBackend"):
            enqueue_many(work.note.using(backend="theirs"), [])

    def test_each_is_announced(self, backend, enqueued_tasks):
        results: list[Any] = enqueue_many(on(backend, work.note), [((), {})] * 3)
        assert [task.id for task in enqueued_tasks] == [result.id for result in results]


@real_commits
class TestTransactions:
    def test_a_task_that_was_enqueued_in_a_transaction_goes_with_it(self, backend):
        with transaction.atomic(using=backend.alias):
            result = on(backend, work.note).enqueue()
            many: list[Any] = enqueue_many(on(backend, work.note), [((), {})] * 3)
            only = on(backend, work.once).enqueue(1)
            assert backend.get_result(result.id) == result
            transaction.set_rollback(True, using=backend.alias)
        for gone in (result, only, *many):
            with pytest.raises(TaskResultDoesNotExist):
                backend.get_result(gone.id)

    def test_a_task_of_an_inner_block_goes_with_the_inner_block(self, backend):
        with transaction.atomic(using=backend.alias):
            kept = on(backend, work.note).enqueue()
            with transaction.atomic(using=backend.alias):
                gone = on(backend, work.note).enqueue()
                transaction.set_rollback(True, using=backend.alias)
        assert backend.get_result(kept.id)
        with pytest.raises(TaskResultDoesNotExist):
            backend.get_result(gone.id)

    def test_nobody_sees_it_before_the_commit(self, backend):
        with transaction.atomic(using=backend.alias):
            on(backend, work.note).enqueue()
            counted: list = []

            def count():
                connection = connections.create_connection(backend.alias)
                with connection.cursor() as cursor:
                    cursor.execute("SELECT count(*) FROM backroom_tasks_taskrecord")
                    counted.append(cursor.fetchone()[0])
                connection.close()

            count()
        count()
        assert counted == [0, 1]

    def test_a_refused_argument_leaves_the_transaction_whole(self, backend):
        with transaction.atomic(using=backend.alias):
            with pytest.raises(InvalidArguments):
                on(backend, work.note).enqueue(object())
            result = on(backend, work.note).enqueue()
        assert backend.get_result(result.id)

    def test_a_unique_key_whose_holder_is_never_there_ends_in_an_error(self, backend, monkeypatch):
        task = on(backend, work.once)
        task.enqueue()
        monkeypatch.setattr(type(backend.store), "get", lambda *_: [])
        with pytest.raises(StoreUnavailable, match="held by tasks that are not there"):
            task.enqueue()

    def test_a_unique_collision_leaves_the_transaction_whole(self, backend):
        first = on(backend, work.once).enqueue()
        with transaction.atomic(using=backend.alias):
            assert on(backend, work.once).enqueue() == first
            result = on(backend, work.note).enqueue()
        assert backend.get_result(result.id)


@real_commits
class TestAsync:
    def test_coroutines_enqueue_and_read(self, backend):
        async def story():
            result = await on(backend, work.note).aenqueue(1)
            assert await backend.aget_result(result.id) == result
            assert await on(backend, work.note).aget_result(result.id) == result
            with pytest.raises(TaskResultDoesNotExist):
                await backend.aget_result("unknown")
            return result

        result = async_to_sync(story)()
        run_tasks(backend.alias)
        async_to_sync(result.arefresh)()
        assert result.status == TaskResultStatus.SUCCESSFUL
        assert result.return_value == [[1], {}]

    def test_many_coroutines_enqueue_at_once(self, backend):
        async def story():
            return await asyncio.gather(*(on(backend, work.note).aenqueue(index) for index in range(20)))

        results = async_to_sync(story)()
        assert [result.args for result in results] == [[index] for index in range(20)]


class TestUnique:
    def test_the_same_arguments_get_the_first_result(self, backend):
        first = on(backend, work.once).enqueue(1, a=2, b=3)
        assert on(backend, work.once).enqueue(1, b=3, a=2) == first
        assert on(backend, work.once).enqueue(2).id != first.id
        assert on(backend, work.once).enqueue(1, a=2).id != first.id

    def test_after_it_has_finished_the_next_one_goes_in(self, backend):
        first = on(backend, work.once).enqueue()
        run_tasks(backend.alias)
        second = on(backend, work.once).enqueue()
        assert second.id != first.id

    def test_while_it_runs_the_caller_gets_the_running_one(self, backend):
        first = on(backend, work.once).enqueue()
        from backroom.testing.stores.case import request

        backend.store.claim(request(now=backend.clock.now()))
        joined = on(backend, work.once).enqueue()
        assert (joined.id, joined.status) == (first.id, TaskResultStatus.RUNNING)

    def test_a_key_of_ones_own_sees_the_arguments(self, backend):
        first = on(backend, work.once_pending).enqueue(7, note="a")
        assert on(backend, work.once_pending).enqueue(7, note="b").id == first.id
        assert on(backend, work.once_pending).enqueue(8, note="a").id != first.id

    def test_a_window_is_counted_from_the_enqueue(self, backend, fake_clock):
        first = on(backend, work.once_a_minute).enqueue()
        run_tasks(backend.alias)
        fake_clock.advance(59)
        assert on(backend, work.once_a_minute).enqueue().id == first.id
        fake_clock.advance(1)
        assert on(backend, work.once_a_minute).enqueue().id != first.id

    def test_of_one_batch_the_same_key_gets_one_result(self, backend, enqueued_tasks):
        results: list[Any] = enqueue_many(on(backend, work.once), [((index % 2,), {}) for index in range(6)])
        assert [result.id for result in results] == [results[0].id, results[1].id] * 3
        assert len(enqueued_tasks) == 2
        run_tasks(backend.alias)
        assert backend.store.counts() == {("default", "successful"): 2}

    def test_a_joined_task_is_not_announced(self, backend, enqueued_tasks):
        on(backend, work.once).enqueue()
        on(backend, work.once).enqueue()
        assert len(enqueued_tasks) == 1

    def test_a_key_that_is_no_string_is_refused(self, backend):
        with pytest.raises(InvalidArguments, match="must return a string"):
            on(backend, work.once_with_bad_key).enqueue(1)

    def test_a_key_may_hold_any_character(self, backend):
        first = on(backend, work.once_with_odd_key).enqueue(1)
        assert on(backend, work.once_with_odd_key).enqueue(1).id == first.id

    def test_a_holder_that_was_pruned_meanwhile_holds_nothing(self, backend, monkeypatch):
        first = on(backend, work.once).enqueue(1)
        real = SQLStore.get
        looks: list[Any] = []

        def get_too_late(store, ids):
            looks.append(ids)
            if len(looks) == 1:
                TaskRecord.objects.using(backend.alias).filter(id__in=ids).delete()
            return real(store, ids)

        monkeypatch.setattr(SQLStore, "get", get_too_late)
        second = on(backend, work.once).enqueue(1)
        assert second.id != first.id
        assert backend.get_result(second.id) == second
        looks.clear()
        results: list[Any] = enqueue_many(on(backend, work.once), [((1,), {}), ((2,), {})])
        assert {first.id, second.id}.isdisjoint({result.id for result in results})
        assert backend.store.counts() == {("default", "ready"): 2}

    def test_two_tasks_may_have_the_same_arguments(self, backend):
        assert on(backend, work.note, unique=True).enqueue(1).id != on(backend, work.answer, unique=True).enqueue(1).id


class TestExpiry:
    def test_what_was_not_started_in_time_fails_as_expired(self, backend, fake_clock):
        result = on(backend, work.answer, expires=60).enqueue()
        fake_clock.advance(60)
        assert run_tasks(backend.alias) == []
        result.refresh()
        assert (result.status, result.label, result.attempts) == (TaskResultStatus.FAILED, "expired", 0)
        assert result.errors[0].exception_class.__name__ == "TaskExpired"

    def test_what_is_started_in_time_runs(self, backend, fake_clock):
        on(backend, work.answer, expires=60).enqueue(5)
        fake_clock.advance(59.9)
        assert [result.return_value for result in run_tasks(backend.alias)] == [5]

    def test_a_deferred_task_has_its_time_from_when_it_is_due(self, backend, fake_clock):
        on(backend, work.answer, run_after=timedelta(hours=1), expires=60).enqueue(5)
        fake_clock.advance(timedelta(hours=1, seconds=59))
        assert [result.return_value for result in run_tasks(backend.alias)] == [5]

    def test_a_retry_is_made_although_the_time_to_start_is_over(self, backend, fake_clock):
        result = on(backend, work.fail_thrice, expires=2).enqueue()
        run_tasks(backend.alias)
        fake_clock.advance(5)
        run_tasks(backend.alias)
        result.refresh()
        assert (result.attempts, result.label) == (2, "retrying")


class TestOldTasks:
    def test_a_plain_task_of_djangos_runs_here_too(self, backend, settings):
        settings.TASKS = settings.TASKS | {"theirs": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
        plain: Any = DjangoTask(func=work.answer.func, backend="theirs").using(backend=backend.alias)
        result = plain.enqueue(3)
        assert type(result.task) is DjangoTask
        (finished,) = run_tasks(backend.alias)
        assert (finished.id, finished.return_value) == (result.id, 3)

    def test_our_task_runs_on_djangos_own_backend(self, settings):
        settings.TASKS = settings.TASKS | {"theirs": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
        assert work.answer.using(backend="theirs").enqueue(3).return_value == 3

    def test_a_record_whose_task_is_gone_is_tried_again_later_with_a_warning(self, backend, fake_clock, caplog):
        result = on(backend, work.answer).enqueue()
        rename(backend, result, "tests.tasks.work.gone")
        with caplog.at_level(logging.WARNING, "backroom.tasks"):
            assert run_tasks(backend.alias) == []
        # Nobody waits for it but an operator, who would otherwise look at a worker that says nothing.
        assert f"action=retrying task_id={result.id}" in caplog.text
        assert "tests.tasks.work.gone cannot be imported" in caplog.text
        assert "Deploy the code that defines it" in caplog.text
        (record,) = backend.store.get([result.id])
        assert (record.state, record.failures, record.attempts) == ("deferred", 1, 1)
        assert "UnknownTask" in record.errors
        with pytest.raises(UnknownTask, match="Deploy the code that defines it"):
            backend.get_result(result.id)
        rename(backend, result, work.answer.module_path)
        fake_clock.advance(600)
        assert [each.id for each in run_tasks(backend.alias)] == [result.id]

    def test_a_record_whose_path_is_no_task_says_so(self, backend):
        result = on(backend, work.answer).enqueue()
        rename(backend, result, "tests.tasks.work.not_a_task")
        run_tasks(backend.alias)
        (record,) = backend.store.get([result.id])
        assert "not a task. Decorate the function" in record.errors

    def test_what_settings_forbid_today_is_still_read(self, backend, settings):
        result = on(backend, work.answer, priority=7).enqueue()
        settings.TASKS = {alias: params | {"QUEUES": ["other"]} for alias, params in settings.TASKS.items()}
        assert task_backends[backend.alias].get_result(result.id).task.queue_name == "default"


class TestWithoutTimeZones:
    @pytest.fixture(autouse=True)
    def _naive(self, settings):
        settings.USE_TZ = False
        settings.TIME_ZONE = "Asia/Kathmandu"

    def test_every_time_is_naive_and_local(self, backend, fake_clock):
        fake_clock.move_to(datetime(2031, 5, 1, 12, tzinfo=UTC))
        local = datetime(2031, 5, 1, 17, 45)  # noqa: DTZ001
        result = on(backend, work.answer).enqueue()
        assert result.enqueued_at == local
        run_tasks(backend.alias)
        result.refresh()
        assert result.started_at == result.last_attempted_at == result.finished_at == local

    def test_signals_tell_naive_times_too(self, backend):
        from django.tasks.signals import task_finished

        told = []

        def hear(*, task_result, **_kwargs):
            told.append(task_result)

        task_finished.connect(hear)
        try:
            on(backend, work.answer).enqueue()
            run_tasks(backend.alias)
        finally:
            task_finished.disconnect(hear)
        assert [result.finished_at.tzinfo for result in told] == [None]

    def test_a_naive_run_after_is_local_time(self, backend, fake_clock):
        fake_clock.move_to(datetime(2031, 5, 1, 12, tzinfo=UTC))
        result = on(backend, work.answer, run_after=datetime(2031, 5, 1, 18)).enqueue()  # noqa: DTZ001
        assert backend.get_result(result.id) == result
        fake_clock.advance(14 * 60)
        assert run_tasks(backend.alias) == []
        fake_clock.advance(60)
        assert len(run_tasks(backend.alias)) == 1


def rename(backend, result, path):
    """Have a record name another task, as if a release had renamed it."""
    TaskRecord.objects.using(backend.alias).filter(id=result.id).update(task_path=path)
