import json

import pytest
from django.core.management import CommandError, call_command

from backroom.tasks import queries
from backroom.tasks.inline import run_due
from backroom.tasks.management.subcommands import selection
from backroom.tasks.records import Query
from tests.commands.work import fail, succeed

pytestmark = pytest.mark.django_db


def states(tasks):
    return {was: queries.get(id_).state for was, id_ in tasks.items()}


AS_BEFORE = {state: state for state in ("failed", "successful", "running", "ready", "deferred")}


def test_finished_tasks_are_retried_by_their_ids(tasks, backroom):
    printed = backroom("retry", tasks["failed"], tasks["successful"])
    assert (printed.out, printed.status) == ("Retried 2 tasks.\n", 0)
    assert states(tasks) == AS_BEFORE | {"failed": "ready", "successful": "ready"}


def test_a_task_that_cannot_be_served_is_named_with_the_reason(tasks, backroom):
    printed = backroom("retry", tasks["running"], tasks["failed"], "nothing")
    assert printed.out == "Retried 1 task.\n"
    assert printed.err == (
        f"Not retried: {tasks['running']}: it is running.\nNot retried: nothing: TASKS['default'] has no such task.\n"
    )
    assert printed.status == 1
    assert states(tasks) == AS_BEFORE | {"failed": "ready"}


def test_failed_tasks_are_retried_all_at_once(tasks, backroom):
    assert backroom("retry", "--failed").out == "Retried 1 task.\n"
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
    assert backroom("retry", "--failed", "--queue", "mail").out == "Retried 1 task.\n"
    assert queries.get(mail).state == "ready"
    assert queries.get(here).state == "failed"
    assert backroom("retry", "--failed", "--reason", "lost").out == "Retried 0 tasks.\n"
    assert backroom("retry", "--failed", "--task", "tests.commands.work.succeed").out == "Retried 0 tasks.\n"
    assert backroom("retry", "--failed", "--task=tests.commands.work.fail", "--reason=error").out == "Retried 1 task.\n"
    assert queries.get(other).state == "successful"


def test_waiting_tasks_are_cancelled_and_running_ones_asked_to_stop(tasks, backroom):
    printed = backroom("cancel", tasks["ready"], tasks["deferred"], tasks["running"])
    assert printed.out == "Cancelled 3 tasks; 1 of them running, which are asked to stop.\n"
    assert states(tasks) == AS_BEFORE | {"ready": "failed", "deferred": "failed"}
    assert queries.get(tasks["running"]).cancel_requested


def test_tasks_are_cancelled_by_queue_or_all_at_once(tasks, backroom):
    mail = succeed.using(queue_name="mail").enqueue().id
    assert backroom("cancel", "--queue", "mail").out == "Cancelled 1 task.\n"
    assert queries.get(mail).reason == "cancelled"
    assert states(tasks) == AS_BEFORE
    assert backroom("cancel", "--task", "tests.commands.work.fail").out == "Cancelled 0 tasks.\n"
    assert backroom("cancel", "--all").out.startswith("Cancelled 3 tasks")


def test_deferred_tasks_are_run_now(tasks, backroom):
    printed = backroom("run-now", tasks["deferred"], tasks["successful"])
    assert printed.out == "Made ready 1 task.\n"
    assert printed.err == f"Not made ready: {tasks['successful']}: it is successful.\n"
    assert states(tasks) == AS_BEFORE | {"deferred": "ready"}
    assert backroom("run-now", "--all").out == "Made ready 0 tasks.\n"


@pytest.mark.parametrize(
    ("arguments", "word", "matched"),
    [
        (["retry", "--failed"], "Would have retried 1 task.", "failed"),
        (["cancel", "--queue=default"], "Would have cancelled 3 tasks; 1 of them running", "ready"),
        (["run-now", "--all"], "Would have made ready 1 task.", "deferred"),
    ],
)
def test_a_dry_run_shows_what_would_be_done_and_changes_nothing(tasks, backroom, arguments, word, matched):
    printed = backroom(*arguments, "--dry-run")
    assert word in printed.out
    assert tasks[matched] in printed.out
    assert states(tasks) == AS_BEFORE


def test_a_dry_run_with_ids_says_what_would_be_refused(tasks, backroom):
    printed = backroom("retry", "--dry-run", tasks["failed"], tasks["ready"])
    assert "Would have retried 1 task." in printed.out
    assert printed.err == f"Not retried: {tasks['ready']}: it is ready.\n"
    assert states(tasks) == AS_BEFORE


def test_many_tasks_are_served_in_bounded_batches(backend, backroom, monkeypatch):
    monkeypatch.setattr(selection, "BATCH", 3)
    for _ in range(10):
        fail.enqueue()
    run_due(backend)
    assert backroom("retry", "--failed").out == "Retried 10 tasks.\n"
    ids = [record.id for record in queries.find(Query(), limit=50).records]
    assert backroom("cancel", *ids, ids[0]).out == "Cancelled 10 tasks.\n"


def test_a_program_gets_a_report(tasks, backroom):
    printed = backroom("cancel", "--json", tasks["ready"], tasks["running"], tasks["failed"], "nothing")
    assert json.loads(printed.out) == {
        "backend": "default",
        "action": "cancel",
        "dry_run": False,
        "matched": 2,
        "done": 2,
        "running": 1,
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
