import json

import pytest

from backroom.tasks import control
from backroom.tasks.inline import run_due
from tests.commands.work import fail, fail_once, succeed

pytestmark = pytest.mark.django_db


def ids(printed):
    return [line.split()[0] for line in printed.out.splitlines()[1:]]


def test_tasks_are_listed_newest_first(tasks, backroom):
    printed = backroom("list")
    assert ids(printed) == sorted(tasks.values(), reverse=True)
    assert printed.out.splitlines()[0].split()[:4] == ["id", "is", "queue", "task"]


def test_the_class_of_an_error_is_shown_and_its_message_is_not(tasks, backroom):
    printed = backroom("list", "--is", "failed")
    assert ids(printed) == [tasks["failed"]]
    assert "builtins.ValueError" in printed.out
    assert "on purpose" not in printed.out


def last_errors(printed):
    return {task["id"]: task["last_error"] for task in json.loads(printed.out)["tasks"]}


def test_an_error_that_was_overcome_is_not_shown(backend, backroom, fake_clock):
    overcome = fail_once.enqueue().id
    lasting = fail.using(max_attempts=2, backoff=60).enqueue().id
    run_due(backend)
    assert last_errors(backroom("list", "--json")) == dict.fromkeys((overcome, lasting), "builtins.ValueError")
    fake_clock.advance(60)
    run_due(backend)
    assert last_errors(backroom("list", "--json")) == {overcome: "", lasting: "builtins.ValueError"}
    assert "builtins" not in backroom("list", "--is", "successful").out
    control.retry([lasting])
    assert last_errors(backroom("list", "--json"))[lasting] == ""


@pytest.mark.parametrize("state", ["running", "ready", "successful", "failed"])
def test_one_state_is_listed_by_its_name(tasks, backroom, state):
    assert ids(backroom("list", "--is", state)) == [tasks[state]]


def test_the_finer_words_for_a_state_are_names_too(tasks, backroom):
    control.cancel([tasks["ready"], tasks["running"]])
    assert ids(backroom("list", "--is=scheduled")) == [tasks["deferred"]]
    assert ids(backroom("list", "--is=cancelled")) == [tasks["ready"]]
    assert ids(backroom("list", "--is=cancelling")) == [tasks["running"]]
    assert ids(backroom("list", "--is=failed")) == [tasks["failed"]]
    assert backroom("list", "--is=lost").out == "No task.\n"


def test_queue_task_and_limit_narrow_it_down(backend, backroom):
    old, new = succeed.enqueue().id, succeed.enqueue().id
    mail = fail.using(queue_name="mail").enqueue().id
    assert ids(backroom("list", "--queue", "mail")) == [mail]
    assert ids(backroom("list", "--task", "tests.commands.work.succeed")) == [new, old]
    assert ids(backroom("list", "--limit", "1")) == [mail]
    assert ids(backroom("list", "--limit", "1", "--queue", "default")) == [new]


def test_a_program_gets_everything_but_the_payload(tasks, backroom):
    printed = json.loads(backroom("list", "--is=failed", "--json").out)
    [task] = printed["tasks"]
    assert printed["backend"] == "default"
    assert (task["id"], task["label"], task["state"], task["reason"]) == (tasks["failed"], "failed", "failed", "error")
    assert (task["attempts"], task["failures"], task["crashes"], task["priority"]) == (1, 1, 0, 0)
    assert task["finished_at"] > task["started_at"] > task["enqueued_at"]
    assert task["due_at"] is None
    assert {"payload", "result", "metadata"} & set(task) == set()
