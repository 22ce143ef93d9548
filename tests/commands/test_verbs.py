import json

import pytest
from django.core.management import CommandError, call_command

from backroom.tasks import control, queries
from backroom.tasks.inline import run_due
from backroom.tasks.lifecycle import label
from backroom.tasks.management.subcommands import selection
from backroom.tasks.policy import Rules, expired
from backroom.tasks.records import EXPIRED, LOST, TIMEOUT, Page, Query, Reason
from tests.commands.work import fail, succeed

pytestmark = pytest.mark.django_db


def states(tasks):
    return {was: queries.get(id_).state for was, id_ in tasks.items()}


AS_BEFORE = {state: state for state in ("failed", "successful", "running", "ready", "deferred")}


def test_finished_tasks_are_retried_by_their_ids(tasks, backroom):
    printed = backroom("retry", tasks["failed"], tasks["successful"])
    assert (printed.out, printed.status) == ("Retried 2 tasks: 1 failed, 1 successful.\n", 0)
    assert states(tasks) == AS_BEFORE | {"failed": "ready", "successful": "ready"}


def test_a_task_that_cannot_be_served_is_named_with_the_reason(tasks, backroom):
    printed = backroom("retry", tasks["running"], tasks["failed"], "nothing")
    assert printed.out == "Retried 1 task: 1 failed.\n"
    assert printed.err == (
        f"Not retried: {tasks['running']}: it is running.\nNot retried: nothing: TASKS['default'] has no such task.\n"
    )
    assert printed.status == 1
    assert states(tasks) == AS_BEFORE | {"failed": "ready"}


def test_failed_tasks_are_retried_all_at_once(tasks, backroom):
    assert backroom("retry", "--failed").out == "Retried 1 task: 1 failed.\n"
    assert states(tasks) == AS_BEFORE | {"failed": "ready"}
    assert backroom("retry", "--failed").out == "Retried 0 tasks.\n"


def test_a_retried_task_has_all_its_attempts_again(backend, backroom):
    result = fail.using(max_attempts=1).enqueue()
    run_due(backend)
    backroom("retry", "--failed")
    assert queries.get(result.id).failures == 0


def test_filters_narrow_down_what_is_retried(backend, backroom):
    mail, here, other = (
        fail.using(queue_name="mail").enqueue().id,
        fail.enqueue().id,
        succeed.enqueue().id,
    )
    run_due(backend)
    assert backroom("retry", "--failed", "--queue", "mail").out == "Retried 1 task: 1 failed.\n"
    assert queries.get(mail).state == "ready"
    assert queries.get(here).state == "failed"
    assert backroom("retry", "--failed", "--reason", "lost").out == "Retried 0 tasks.\n"
    assert backroom("retry", "--failed", "--task", "tests.commands.work.succeed").out == "Retried 0 tasks.\n"
    assert (
        backroom("retry", "--failed", "--task=tests.commands.work.fail", "--reason=error").out
        == "Retried 1 task: 1 failed.\n"
    )
    assert queries.get(other).state == "successful"


@pytest.fixture
def ended(backend, fake_clock):
    """Give the ids of tasks that ended in each way, by the word for it."""
    ids = {word: fail.enqueue().id for word in ("failed", "cancelled", "expired", "lost", "timeout")}
    control.cancel([ids["cancelled"]])
    reasons: list[Reason] = [EXPIRED, LOST, TIMEOUT]
    for reason in reasons:
        [record] = backend.store.get([ids[reason]])
        ended = expired(record, rules=Rules(), now=backend.clock.now())._replace(reason=reason)
        assert backend.store.apply([ended])
    run_due(backend)
    ids["successful"] = succeed.enqueue().id
    run_due(backend)
    assert {word: label(queries.get(id_)) for word, id_ in ids.items()} == {word: word for word in ids}
    return ids


def retried(ids):
    return {word for word, id_ in ids.items() if queries.get(id_).state == "ready"}


def test_failures_are_retried_and_what_somebody_chose_is_left_alone(ended, backroom):
    dry = backroom("retry", "--failed", "--dry-run").out
    assert dry.endswith(
        "Would have retried 3 tasks: 1 failed, 1 lost, 1 timeout.\n"
        "Left alone: 1 cancelled, 1 expired (--reason cancelled --reason expired).\n"
    )
    assert retried(ended) == set()
    printed = backroom("retry", "--failed").out
    assert printed == (
        "Retried 3 tasks: 1 failed, 1 lost, 1 timeout.\n"
        "Left alone: 1 cancelled, 1 expired (--reason cancelled --reason expired).\n"
    )
    assert retried(ended) == {"failed", "lost", "timeout"}


def test_what_was_cancelled_or_has_expired_is_retried_on_demand(ended, backroom):
    assert backroom("retry", "--failed", "--reason", "cancelled").out == "Retried 1 task: 1 cancelled.\n"
    assert retried(ended) == {"cancelled"}
    printed = backroom("retry", "--failed", "--reason", "expired", "--reason", "lost", "--json")
    assert json.loads(printed.out)["were"] == {"expired": 1, "lost": 1}
    assert json.loads(printed.out)["left_alone"] == {"failed": 1, "timeout": 1}
    assert retried(ended) == {"cancelled", "expired", "lost"}


def test_a_task_that_is_named_is_retried_whatever_became_of_it(ended, backroom):
    assert backroom("retry", *ended.values()).out.startswith("Retried 6 tasks: ")
    assert retried(ended) == set(ended)


def test_a_program_retries_failures_alone_if_it_says_so(ended):
    assert control.retry(list(ended.values()), only=control.FAILURES) == sorted(
        ended[word] for word in ("failed", "lost", "timeout")
    )
    assert control.retry(list(ended.values())) == sorted(ended[word] for word in ("cancelled", "expired", "successful"))


def test_names_that_no_task_can_have_find_nothing(tasks, backroom):
    for name in ("a\0b", "\ud800"):
        assert backroom("list", "--queue", name).out == "No task.\n"
        assert backroom("list", "--task", name).out == "No task.\n"
        assert backroom("cancel", "--queue", name).out == "Cancelled 0 tasks.\n"
        assert backroom("retry", "--failed", "--task", name).out == "Retried 0 tasks.\n"
        assert backroom("cancel", name).status == 1
        assert queries.find(Query(worker_id=name)) == Page([], None)
        assert queries.find(Query(), after=name) == Page([], None)
    assert states(tasks) == AS_BEFORE


def test_waiting_tasks_are_cancelled_and_running_ones_asked_to_stop(tasks, backroom):
    printed = backroom("cancel", tasks["ready"], tasks["deferred"], tasks["running"])
    assert printed.out == (
        "Cancelled 3 tasks: 1 ready, 1 running, 1 scheduled; what runs is asked to stop, and does so within 12 s at the "
        "latest.\n"
    )
    assert states(tasks) == AS_BEFORE | {"ready": "failed", "deferred": "failed"}
    assert queries.get(tasks["running"]).cancel_requested


def test_tasks_are_cancelled_by_queue_or_all_at_once(tasks, backroom):
    mail = succeed.using(queue_name="mail").enqueue().id
    assert backroom("cancel", "--queue", "mail").out == "Cancelled 1 task: 1 ready.\n"
    assert queries.get(mail).reason == "cancelled"
    assert states(tasks) == AS_BEFORE
    assert backroom("cancel", "--task", "tests.commands.work.fail").out == "Cancelled 0 tasks.\n"
    assert backroom("cancel", "--all").out.startswith("Cancelled 3 tasks")


def test_deferred_tasks_are_run_now(tasks, backroom):
    printed = backroom("run-now", tasks["deferred"], tasks["successful"])
    assert printed.out == "Made ready 1 task: 1 scheduled.\n"
    assert printed.err == f"Not made ready: {tasks['successful']}: it is successful.\n"
    assert states(tasks) == AS_BEFORE | {"deferred": "ready"}
    assert backroom("run-now", "--all").out == "Made ready 0 tasks.\n"


@pytest.mark.parametrize(
    ("arguments", "word", "matched"),
    [
        (["retry", "--failed"], "Would have retried 1 task: 1 failed.", "failed"),
        (["cancel", "--queue=default"], "; what runs is asked", "ready"),
        (["run-now", "--all"], "Would have made ready 1 task: 1 scheduled.", "deferred"),
    ],
)
def test_a_dry_run_shows_what_would_be_done_and_changes_nothing(tasks, backroom, arguments, word, matched):
    printed = backroom(*arguments, "--dry-run")
    assert word in printed.out
    assert tasks[matched] in printed.out
    assert states(tasks) == AS_BEFORE


def test_a_dry_run_with_ids_says_what_would_be_refused(tasks, backroom):
    printed = backroom("retry", "--dry-run", tasks["failed"], tasks["ready"])
    assert "Would have retried 1 task: 1 failed." in printed.out
    assert printed.err == f"Not retried: {tasks['ready']}: it is ready.\n"
    assert states(tasks) == AS_BEFORE


def test_many_tasks_are_served_in_bounded_batches(backend, backroom, monkeypatch):
    monkeypatch.setattr(selection, "BATCH", 3)
    for _ in range(10):
        fail.enqueue()
    run_due(backend)
    assert backroom("retry", "--failed").out == "Retried 10 tasks: 10 failed.\n"
    ids = [record.id for record in queries.find(Query(), limit=50).records]
    assert backroom("cancel", *ids, ids[0]).out == "Cancelled 10 tasks: 10 ready.\n"


def test_a_program_gets_a_report(tasks, backroom):
    printed = backroom("cancel", "--json", tasks["ready"], tasks["running"], tasks["failed"], "nothing")
    assert json.loads(printed.out) == {
        "backend": "default",
        "action": "cancel",
        "dry_run": False,
        "matched": 2,
        "done": 2,
        "running": 1,
        "were": {"ready": 1, "running": 1},
        "left_alone": {},
        "refused": sorted(
            [{"id": tasks["failed"], "is": "failed"}, {"id": "nothing", "is": None}], key=lambda each: each["id"]
        ),
    }
    assert printed.err == ""
    assert printed.status == 1
    assert json.loads(backroom("retry", "--failed", "--dry-run", "--json").out)["done"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retry"], "Say which tasks: ids, or --failed"),
        (["retry", "--queue", "mail"], "Say which tasks: ids, or --failed"),
        (["cancel"], "Say which tasks: ids, --queue NAME, --task PATH, or --all"),
        (["run-now"], "Say which tasks"),
        (["cancel", "x", "--all"], "by their ids or by --all, not by both"),
        (["retry", "x", "--failed", "--queue", "mail"], "by their ids or by --queue --failed, not by both"),
        (["retry", "--failed", "--reason", "boredom"], "invalid choice: 'boredom'"),
        (["cancel", "--reason", "lost", "--all"], "unrecognized arguments"),
    ],
)
def test_an_order_that_is_not_clear_is_refused(backend, arguments, words):
    with pytest.raises(CommandError, match=words):
        call_command("backroom", *arguments)
