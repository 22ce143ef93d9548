"""A backend on each database, tasks in each state, and the command as a terminal would call it."""

from datetime import timedelta
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.tasks import task_backends
from django.utils import timezone

from backroom.clock import after
from backroom.tasks import queries
from backroom.tasks.inline import run_due
from backroom.tasks.stores.base import Request
from tests.commands.work import fail, succeed

DATABASE = "backroom.tasks.backends.database.DatabaseBackend"
SECRET = "an argument that nobody may see"


@pytest.fixture
def backend(store_database, settings):
    """Give the only backend, on each database in turn; its queues are any."""
    settings.TASKS = {"default": {"BACKEND": DATABASE, "QUEUES": [], "OPTIONS": {"database": store_database}}}
    return task_backends["default"]


@pytest.fixture
def tasks(backend):
    """Give the id of one task in each state; each has an argument and a result that no command may print."""
    ids = {"failed": fail.enqueue(SECRET).id, "successful": succeed.enqueue(SECRET).id}
    run_due(backend)
    ids["running"] = succeed.enqueue(SECRET).id
    now = backend.clock.now()
    assert backend.store.claim(Request((), 1, "worker", now, after(now, 30)))
    ids["ready"] = succeed.enqueue(SECRET).id
    ids["deferred"] = succeed.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(SECRET).id
    assert {state: queries.get(id_).state for state, id_ in ids.items()} == {state: state for state in ids}
    return ids


@pytest.fixture
def backroom():
    """Give a function that runs a subcommand and returns what it printed and its exit status."""

    def run(*arguments):
        out, err = StringIO(), StringIO()
        try:
            call_command("backroom", *arguments, stdout=out, stderr=err)
        except SystemExit as exit_:
            status = exit_.code
        else:
            status = 0
        assert SECRET not in out.getvalue() + err.getvalue()
        return SimpleNamespace(out=out.getvalue(), err=err.getvalue(), status=status)

    return run
