"""Where a worker runs which kind of task."""

import pytest

TASKS = """
import threading

from django.contrib.auth.models import Group
from django.tasks import task


@task(atomic=True)
async def write_and_fail():
    await Group.objects.acreate(name="written by a task that failed")
    raise ValueError("no")


@task(atomic=True)
async def write():
    await Group.objects.acreate(name="written by a task")


@task
async def where():
    return threading.current_thread().name
"""

ENQUEUE = """
import shop
print(shop.write_and_fail.enqueue().id, shop.write.enqueue().id, shop.where.enqueue().id)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_coroutine_that_is_atomic_keeps_the_promise_in_a_worker(make_project, database):
    project = make_project(database)
    project.write("shop.py", TASKS)
    failed, succeeded, plain = project.python(ENQUEUE).split()
    project.run("backroom", "worker", "--burst")
    states = dict(project.query("SELECT id, state FROM backroom_tasks_taskrecord"))
    assert states == {failed: "failed", succeeded: "successful", plain: "successful"}
    assert project.query("SELECT name FROM auth_group") == [("written by a task",)]


LEFT_OPEN = """
from django.contrib.auth.models import Group
from django.db import transaction
from django.tasks import task


@task
def leave_open():
    transaction.atomic().__enter__()
    Group.objects.create(name="never committed")
"""


def test_a_transaction_that_a_task_left_open_ends_with_it(make_project):
    project = make_project("sqlite")
    project.write("shop.py", LEFT_OPEN)
    task_id = project.python("import shop; print(shop.leave_open.enqueue().id)").strip()
    # Its lock would keep the worker from writing down that the task has ended.
    project.run("backroom", "worker", "--burst")
    assert project.query("SELECT id, state FROM backroom_tasks_taskrecord") == [(task_id, "successful")]
    assert project.query("SELECT name FROM auth_group") == []
