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
