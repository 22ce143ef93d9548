"""The operator's verbs take tasks only from the states that they are for."""

import pytest

from backroom.tasks import control, queries

pytestmark = pytest.mark.django_db


def test_only_finished_tasks_are_retried(tasks):
    assert control.retry(tasks.values()) == sorted([tasks["failed"], tasks["successful"]])
    assert queries.get(tasks["running"]).state == "running"
    assert queries.get(tasks["deferred"]).state == "deferred"


def test_only_deferred_tasks_are_run_now(tasks):
    assert control.run_now(tasks.values()) == [tasks["deferred"]]
    assert queries.get(tasks["running"]).state == "running"
    assert queries.get(tasks["failed"]).state == "failed"


def test_only_unfinished_tasks_are_cancelled(tasks):
    assert control.cancel(tasks.values()) == sorted(tasks[state] for state in ("ready", "deferred", "running"))
    assert queries.get(tasks["running"]).cancel_requested
    assert queries.get(tasks["successful"]).state == "successful"
