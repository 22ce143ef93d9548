"""What comes of an attempt: returns, exceptions, orders of the task's own, and the promise of `atomic`."""

import json
import logging
import re
from datetime import timedelta
from typing import Any

import pytest
from django.tasks import TaskResultStatus
from django.tasks.signals import task_enqueued, task_finished, task_started

from backroom.tasks import Snooze, TaskCancelled, control
from backroom.tasks.backends.database import DatabaseBackend
from backroom.tasks.exceptions import TaskTimeout
from backroom.tasks.execution import Execution
from backroom.tasks.inline import settle
from backroom.tasks.policy import decide
from backroom.tasks.records import Crashed
from backroom.tasks.signals import task_retried
from backroom.testing import run_tasks
from backroom.testing.stores.case import RULES, request
from tests.ledger.models import Book
from tests.tasks import work
from tests.tasks.test_backends import on, rename

# With tables that a task can write to.
real_commits = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks", "tests.ledger"])


@pytest.fixture
def run(backend):
    """Give a function that enqueues a task here, runs what is due, and returns the result as it is then."""

    def enqueue_and_run(task, *args, **kwargs):
        result = on(backend, task).enqueue(*args, **kwargs)
        run_tasks(backend.alias)
        result.refresh()
        return result

    return enqueue_and_run


class TestReturnValues:
    @pytest.mark.parametrize("task", [work.note, work.note_async], ids=["function", "coroutine"])
    def test_functions_and_coroutines_return_alike(self, run, task):
        result = run(task, 1, (2,), three="3")
        assert result.status == TaskResultStatus.SUCCESSFUL
        assert result.return_value == [[1, [2]], {"three": "3"}]
        assert work.seen == [((1, [2]), {"three": "3"})]
        assert result.is_finished
        assert result.attempts == len(result.worker_ids) == 1

    @pytest.mark.parametrize(("what", "value"), [("tuple", [1, [2]]), ("bytes", "abc")])
    def test_a_return_value_is_normalised(self, run, what, value):
        assert run(work.give, what).return_value == value

    @pytest.mark.parametrize(
        ("what", "kind", "words"),
        [
            ("nan", TypeError, "return value is nan"),
            ("set", TypeError, "as return value"),
            ("keys", TypeError, "return value has the key 1"),
            ("huge", Exception, "max_result_bytes"),
        ],
    )
    def test_one_that_json_lacks_fails_the_task(self, run, what, kind, words):
        result = run(work.give, what)
        assert result.status == TaskResultStatus.FAILED
        assert issubclass(result.errors[0].exception_class, kind)
        assert words in result.errors[0].traceback

    def test_none_is_a_return_value(self, run):
        assert run(work.answer).return_value is None


class TestExceptions:
    def test_a_failure_keeps_class_path_and_traceback(self, run):
        result = run(work.fail, "out of paper")
        assert (result.status, result.label) == (TaskResultStatus.FAILED, "failed")
        (error,) = result.errors
        assert error.exception_class is work.Refused
        assert error.exception_class_path == "tests.tasks.work.Refused"
        assert error.traceback.startswith("Traceback (most recent call last):\n")
        assert error.traceback.endswith("tests.tasks.work.Refused: out of paper\n")
        assert "in fail\n" in error.traceback
        with pytest.raises(ValueError, match="Task failed"):
            result.return_value  # noqa: B018

    @pytest.mark.parametrize(
        "text", ["\0", "\ud800", "🦊", "%s", "x" * 100_000], ids=["nul", "surrogate", "emoji", "percent", "long"]
    )
    def test_a_message_may_hold_anything(self, run, text, monkeypatch):
        # What pytest would keep of the log cannot be sent from a process of pytest-xdist to the other.
        monkeypatch.setattr(logging.getLogger("django.tasks"), "disabled", True)
        assert run(work.fail, text).errors[0].exception_class is work.Refused

    def test_a_retry_waits_its_turn_and_keeps_every_error(self, run, backend, fake_clock):
        result = run(work.fail_thrice, "a")
        assert (result.status, result.label, result.attempts) == (TaskResultStatus.READY, "retrying", 1)
        first_started = result.started_at
        fake_clock.advance(4.9)
        assert run_tasks(backend.alias) == []
        fake_clock.advance(0.1)
        run_tasks(backend.alias)
        fake_clock.advance(10)
        run_tasks(backend.alias)
        result.refresh()
        assert (result.status, result.label, result.attempts) == (TaskResultStatus.FAILED, "failed", 3)
        assert [error.exception_class for error in result.errors] == [work.Refused] * 3
        assert work.seen == ["a"] * 3
        assert result.started_at == first_started
        assert result.last_attempted_at == result.finished_at == first_started + timedelta(seconds=14.9 + 0.1)

    def test_a_backoff_function_is_shown_the_exception_and_the_result(self, run, backend, fake_clock):
        result = run(work.fail_twice)
        ((error, shown),) = work.seen
        assert isinstance(error, work.Refused)
        assert (shown.id, shown.attempts) == (result.id, 1)
        (record,) = backend.store.get([result.id])
        assert record.due_at == record.last_attempted_at + 4_000_000

    def test_an_exception_that_is_not_worth_a_retry_fails_at_once(self, run):
        assert run(work.fail_at_once).status == TaskResultStatus.FAILED

    def test_an_exit_is_only_the_tasks(self, run):
        result = run(work.leave)
        assert result.status == TaskResultStatus.FAILED
        assert result.errors[0].exception_class is SystemExit

    def test_keys_that_are_pressed_end_the_run_and_give_the_task_back(self, backend):
        result = on(backend, work.press_keys).enqueue()
        with pytest.raises(KeyboardInterrupt):
            run_tasks(backend.alias)
        result.refresh()
        assert (result.status, result.attempts, result.worker_ids) == (TaskResultStatus.READY, 0, [])
        assert (result.errors, result.started_at) == ([], None)

    def test_a_module_that_cannot_be_imported_fails_the_attempt_and_not_the_run(self, backend):
        result = on(backend, work.answer).enqueue()
        rename(backend, result, "tests.tasks.broken.answer")
        other = on(backend, work.answer).enqueue()
        assert [each.id for each in run_tasks(backend.alias)] == [other.id]
        (record,) = backend.store.get([result.id])
        assert record.state == "deferred"
        assert "a module of the project's raises what it likes" in record.errors


class TestOrders:
    def test_a_snooze_does_not_count(self, run, backend, fake_clock):
        result = run(work.snooze_once)
        assert (result.status, result.label, result.attempts, result.errors) == (
            *(TaskResultStatus.READY, "scheduled", 0, []),
        )
        fake_clock.advance(60)
        (finished,) = run_tasks(backend.alias)
        assert (finished.return_value, finished.attempts) == ("awake", 1)
        assert work.seen == [1, 1]

    def test_a_task_may_cancel_itself(self, run):
        result = run(work.cancel_itself)
        assert (result.status, result.label) == (TaskResultStatus.FAILED, "cancelled")
        assert result.errors[0].exception_class is TaskCancelled

    def test_a_waiting_task_that_is_cancelled_does_not_run(self, backend):
        result = on(backend, work.note).enqueue()
        assert control.cancel([result.id], using=backend.alias) == [result.id]
        assert run_tasks(backend.alias) == []
        result.refresh()
        assert (result.status, result.label) == (TaskResultStatus.FAILED, "cancelled")

    def test_a_claim_that_was_to_stop_before_it_began_does_not_begin(self, backend):
        result = on(backend, work.note).enqueue()
        (claim,) = backend.store.claim(request(now=backend.clock.now()))
        assert control.cancel([result.id], using=backend.alias) == [result.id]
        backend.store.apply([decide(claim, Crashed(), rules=RULES, now=backend.clock.now(), draw=0)])
        run_tasks(backend.alias)
        result.refresh()
        assert result.label == "cancelled"
        assert work.seen == []

    def test_an_exception_of_a_task_that_was_to_stop_is_its_cancellation(self, backend):
        on(backend, work.fail_thrice).enqueue()
        (claim,) = backend.store.claim(request(now=backend.clock.now()))
        execution = backend.attempts.begin(claim)
        execution.request_cancel()
        assert backend.attempts.run(execution).transition.reason == "cancelled"

    def test_a_timeout_says_which(self, backend):
        on(backend, work.note, timeout=2.5).enqueue()
        (claim,) = backend.store.claim(request(now=backend.clock.now()))
        execution = backend.attempts.begin(claim)
        from backroom.tasks.execute import outcome_of

        outcome: Any = outcome_of(TaskTimeout(), execution)
        assert outcome.traceback.endswith("TaskTimeout: The attempt took longer than its timeout of 2.5 s.\n")

    def test_a_task_without_a_timeout_may_fail_with_anothers(self, backend):
        on(backend, work.note).enqueue()
        (claim,) = backend.store.claim(request(now=backend.clock.now()))
        from backroom.tasks.execute import outcome_of

        outcome: Any = outcome_of(TaskTimeout(), backend.attempts.begin(claim))
        assert outcome.class_path == "backroom.tasks.exceptions.TaskTimeout"

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
    def test_a_snooze_takes_seconds_that_can_be_waited(self, seconds):
        with pytest.raises(ValueError, match="Snooze takes a number of seconds from 0 upwards"):
            Snooze(seconds)

    def test_a_cancelled_task_whose_function_is_gone_is_only_logged(self, backend, caplog):
        result = on(backend, work.answer).enqueue()
        rename(backend, result, "tests.tasks.work.gone")
        with caplog.at_level(logging.INFO, "backroom.tasks"):
            assert control.cancel([result.id], using=backend.alias) == [result.id]
        assert f"action=cancelled task_id={result.id}" in caplog.text
        assert backend.store.counts() == {("default", "failed"): 1}


class TestContext:
    def test_a_task_knows_its_attempt_metadata_and_progress(self, backend):
        result = on(backend, work.report, metadata={"trace": 1}).enqueue(done=2)
        (finished,) = run_tasks(backend.alias)
        assert finished.return_value == result.id
        assert work.seen == [({"trace": 1}, False, 1, result.id)]
        assert finished.progress == (2, 3, "reading")
        assert (finished.metadata, backend.get_result(result.id).task.metadata) == ({"trace": 1}, {"trace": 1})

    def test_a_coroutine_does_too(self, run):
        result = run(work.report_async)
        assert result.return_value == [1, True]
        assert result.progress == (1, None, "")

    def test_what_a_task_enqueues_runs_too(self, run, backend):
        result = run(work.enqueue_another, backend.alias)
        assert backend.get_result(result.return_value).return_value == [["nested"], {}]


@real_commits
class TestAtomic:
    def written(self, backend):
        return Book.objects.using(backend.alias).count()

    @pytest.mark.parametrize("then", ["return"])
    def test_the_tasks_writes_and_its_success_are_one(self, run, backend, then):
        assert run(work.write_and, then, backend.alias).status == TaskResultStatus.SUCCESSFUL
        assert self.written(backend) == 1

    def test_a_coroutine_keeps_the_promise_too(self, run, backend):
        assert run(work.write_async, backend.alias).status == TaskResultStatus.SUCCESSFUL
        assert self.written(backend) == 1

    @pytest.mark.parametrize(
        ("then", "label", "error"),
        [
            ("raise", "failed", "Refused"),
            ("snooze", "scheduled", None),
            ("leave a constraint broken", "failed", "IntegrityError"),
            ("break the transaction", "failed", "TransactionManagementError"),
        ],
    )
    def test_anything_but_a_success_takes_the_writes_back(self, run, backend, then, label, error):
        result = run(work.write_and, then, backend.alias)
        assert result.label == label
        assert [each.exception_class.__name__ for each in result.errors] == ([error] if error else [])
        assert self.written(backend) == 0

    def test_who_lost_the_claim_writes_nothing(self, backend, caplog):
        result = on(backend, work.lose_the_claim).enqueue(backend.alias)
        (claim,) = backend.store.claim(request(now=backend.clock.now()))

        def take_over():
            # In the same transaction, where it is as good as another worker's that committed before.
            backend.store.apply([decide(claim, Crashed(), rules=RULES, now=backend.clock.now(), draw=0)])

        work.seen.append(take_over)
        execution = backend.attempts.begin(claim)
        attempt = backend.attempts.run(execution)
        assert attempt.is_lost
        assert not attempt.is_applied
        assert self.written(backend) == 0
        result.refresh()
        assert result.status == TaskResultStatus.RUNNING

    def test_another_worker_that_took_over_keeps_what_it_did(self, backend):
        result = on(backend, work.write_and).enqueue("return", backend.alias)
        (first,) = backend.store.claim(request(now=backend.clock.now()))
        backend.store.apply([decide(first, Crashed(), rules=RULES, now=backend.clock.now(), draw=0)])
        (second,) = backend.store.claim(request(now=backend.clock.now(), worker_id="worker-2"))
        late, current = (backend.attempts.begin(claim) for claim in (first, second))
        assert backend.attempts.run(late).is_lost
        attempt = backend.attempts.run(current)
        settle(backend, [attempt])
        result.refresh()
        assert (result.status, result.worker_ids) == (TaskResultStatus.SUCCESSFUL, ["worker-1", "worker-2"])
        assert self.written(backend) == 1

    def test_nobody_sees_the_success_without_the_writes(self, backend):
        """Both are there after one commit: the attempt has nothing left to tell the store."""
        result = on(backend, work.write_and).enqueue("return", backend.alias)
        (claim,) = backend.store.claim(request(now=backend.clock.now()))
        execution = backend.attempts.begin(claim)
        assert isinstance(execution, Execution)
        attempt = backend.attempts.run(execution)
        assert attempt.is_applied
        result.refresh()
        assert result.status == TaskResultStatus.SUCCESSFUL


class Heard:
    """A receiver that takes down every signal, or raises at each."""

    def __init__(self):
        self.calls: list[tuple[str, Any, Any]] = []
        self.raises = False
        self.signals = {
            "enqueued": task_enqueued,
            "started": task_started,
            "finished": task_finished,
            "retried": task_retried,
        }
        self.receivers = {name: self.receiver(name) for name in self.signals}

    def receiver(self, name):
        def receive(*, sender, task_result, **kwargs):
            self.calls.append((name, sender, (task_result.status, task_result.attempts, kwargs.get("run_after"))))
            if self.raises:
                raise work.Refused("a receiver's")

        return receive

    def names(self):
        return [name for name, _, _ in self.calls]


@pytest.fixture
def heard():
    heard = Heard()
    for name, signal in heard.signals.items():
        signal.connect(heard.receivers[name])
    yield heard
    for name, signal in heard.signals.items():
        signal.disconnect(heard.receivers[name])


class TestSignals:
    def test_the_sender_is_the_class_of_the_backend(self, run, heard):
        run(work.answer)
        assert [(name, sender) for name, sender, _ in heard.calls] == [
            ("enqueued", DatabaseBackend),
            ("started", DatabaseBackend),
            ("finished", DatabaseBackend),
        ]

    def test_each_tells_how_things_stand(self, run, heard):
        run(work.answer)
        assert [(status, attempts) for _, _, (status, attempts, _) in heard.calls] == [
            (TaskResultStatus.READY, 0),
            (TaskResultStatus.RUNNING, 1),
            (TaskResultStatus.SUCCESSFUL, 1),
        ]

    def test_a_failure_is_told(self, run, heard):
        run(work.fail)
        assert heard.names() == ["enqueued", "started", "finished"]
        assert heard.calls[-1][2][0] == TaskResultStatus.FAILED

    def test_a_retry_is_told_with_its_time(self, run, heard, fake_clock):
        run(work.fail_thrice)
        assert heard.names() == ["enqueued", "started", "retried"]
        assert heard.calls[-1][2][2] == fake_clock.today() + timedelta(seconds=5)

    def test_a_snooze_is_no_retry(self, run, heard):
        run(work.snooze_once)
        assert heard.names() == ["enqueued", "started"]

    def test_a_cancelled_task_has_finished(self, backend, heard):
        result = on(backend, work.answer).enqueue()
        control.cancel([result.id], using=backend.alias)
        assert heard.names() == ["enqueued", "finished"]

    @real_commits
    @pytest.mark.parametrize(
        ("task", "arguments", "status"),
        [
            (work.answer, (), TaskResultStatus.SUCCESSFUL),
            (work.fail, (), TaskResultStatus.FAILED),
            (work.fail_thrice, (), TaskResultStatus.READY),
            (work.write_and, ("return", "{alias}"), TaskResultStatus.SUCCESSFUL),
        ],
        ids=["success", "failure", "retry", "atomic"],
    )
    def test_a_receiver_that_raises_changes_nothing(self, run, backend, heard, task, arguments, status):
        heard.raises = True
        result = run(task, *(each.format(alias=backend.alias) for each in arguments))
        assert result.status == status
        assert len(heard.calls) == 3
        assert not any("a receiver's" in error.traceback for error in result.errors)

    def test_nothing_is_told_of_a_claim_that_was_lost(self, backend, heard):
        on(backend, work.answer).enqueue()
        (claim,) = backend.store.claim(request(now=backend.clock.now()))
        attempt = backend.attempts.run(backend.attempts.begin(claim))
        backend.store.apply([decide(claim, Crashed(), rules=RULES, now=backend.clock.now(), draw=0)])
        settle(backend, [attempt])
        assert heard.names() == ["enqueued", "started"]


class TestLogs:
    def test_djangos_receiver_logs_the_exception(self, run, caplog):
        with caplog.at_level(logging.INFO, "django.tasks"):
            run(work.fail, "out of paper")
        (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert logged.name == "django.tasks"
        assert logged.exc_info is not None
        assert str(logged.exc_info[1]) == "out of paper"
        assert "in fail" in (logged.exc_text or caplog.text)

    @pytest.mark.parametrize(
        ("task", "words"),
        [
            (work.answer, "action=succeeded"),
            (work.fail, "action=failed"),
            (work.fail_thrice, "action=retrying"),
            (work.snooze_once, "action=deferred"),
            (work.cancel_itself, "action=cancelled"),
        ],
    )
    def test_each_move_is_one_line_without_arguments(self, run, backend, caplog, task, words):
        with caplog.at_level(logging.INFO, "backroom.tasks"):
            secret = "a secret argument"
            result = run(task, *([secret] if task in {work.answer, work.fail, work.fail_thrice} else []))
        (line,) = [record.getMessage() for record in caplog.records if record.name == "backroom.tasks"]
        assert line.startswith(words)
        assert f"task_id={result.id} path={task.module_path} queue=default attempt=1" in line
        assert secret not in line

    def test_a_retry_is_told_at_the_level_that_a_worker_prints_without_what_the_error_says(self, run, caplog):
        with caplog.at_level(logging.WARNING, "backroom.tasks"):
            run(work.fail_thrice, "a secret")
        (line,) = [record.getMessage() for record in caplog.records if record.name == "backroom.tasks"]
        assert re.search(r"action=retrying .* attempt=1 reason=Refused run_after=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", line)
        assert "secret" not in line


class TestKeeping:
    @pytest.mark.parametrize(
        ("keep", "kept"),
        [(True, 7 * 86_400), (60, 60), (False, 0)],
        ids=["as the backend says", "a minute", "not at all"],
    )
    def test_a_success_is_kept_as_long_as_asked(self, backend, fake_clock, keep, kept):
        result = on(backend, work.answer, keep_result=keep).enqueue()
        run_tasks(backend.alias)
        fake_clock.advance(kept - 1)
        assert control.prune(using=backend.alias) == 0
        fake_clock.advance(1)
        assert control.prune(using=backend.alias) == 1
        assert backend.store.get([result.id]) == []

    def test_a_failure_is_kept_as_long_as_the_backend_says(self, run, backend, fake_clock):
        run(work.fail)
        fake_clock.advance(30 * 86_400 - 1)
        assert control.prune(using=backend.alias) == 0
        fake_clock.advance(1)
        assert control.prune(using=backend.alias) == 1

    def test_pruning_goes_on_until_nothing_is_left(self, backend):
        for _ in range(5):
            on(backend, work.answer, keep_result=False).enqueue()
        run_tasks(backend.alias)
        assert control.prune(using=backend.alias, batch=2) == 5


def test_errors_are_json_of_pairs(run, backend):
    result = run(work.fail)
    (record,) = backend.store.get([result.id])
    assert [path for path, _ in json.loads(record.errors)] == ["tests.tasks.work.Refused"]
