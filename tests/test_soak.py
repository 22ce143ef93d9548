"""A worker that runs for long: nothing is lost, and neither its memory nor its open files grow.

`make soak` runs it; SOAK_SECONDS, 900 unless told, is how long on each database. In the first half processes are killed now
and then; in the second half they live, and what grows is seen.
"""

import os
import random
import time

import psutil
import pytest

from tests.services.project import Project, wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "900"))
ROUND = 200

TASKS = """\
import random
from django.tasks import task

@task(max_attempts=20, backoff=0.05)
def sometimes_fails(number):
    if random.random() < 0.1:
        raise ValueError(number)
    return number

@task
async def waits(number):
    import asyncio
    await asyncio.sleep(random.random() / 20)
    return number
"""

SETTINGS = """\
TASKS["default"]["OPTIONS"] = {"crash_budget": 1000}
"""

ENQUEUE = f"""\
from backroom.tasks import enqueue_many
from jobs import sometimes_fails, waits
for each in (sometimes_fails, waits):
    enqueue_many(each, [((number,), {{}}) for number in range({ROUND // 2})])
"""

TABLE = "backroom_tasks_taskrecord"


@pytest.mark.soak
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_worker_that_runs_for_long_loses_nothing_and_does_not_grow(make_project, database):
    project: Project = make_project(database, settings=SETTINGS)
    project.write("jobs.py", TASKS)
    worker = project.manage("backroom", "worker", "--processes", "2", "--verbosity", "0")
    supervisor = psutil.Process(worker.pid)
    chance = random.Random(11)
    begins_at = time.monotonic()
    enqueued = kills = 0
    sizes: list[tuple[int, int]] = []
    while time.monotonic() < begins_at + SECONDS:
        project.python(ENQUEUE)
        enqueued += ROUND
        _wait_for_all(project, worker, enqueued)
        if time.monotonic() > begins_at + SECONDS / 2:
            sizes.append(_size([supervisor, *supervisor.children()]))
        elif enqueued % (5 * ROUND) == 0 and (alive := supervisor.children()):
            chance.choice(alive).kill()
            kills += 1

    settled = sizes[len(sizes) // 4]
    print(f"{database}: {enqueued} tasks, {kills} kills; bytes and files {settled}, at the end {sizes[-1]}")
    assert sizes[-1][0] < settled[0] + 10_000_000
    assert sizes[-1][1] < settled[1] + 10

    worker.terminate()
    assert worker.wait(30) == 0


def _size(processes):
    """Return how many bytes of their own, and how many open files, processes have together."""
    return sum(each.memory_full_info().uss for each in processes), sum(each.num_fds() for each in processes)


def _wait_for_all(project, worker, enqueued):
    def left():
        return enqueued - project.query(f"SELECT count(*) FROM {TABLE} WHERE state = 'successful'")[0][0]

    wait_until(
        lambda: left() == 0,
        seconds=60,
        what=lambda: f"{left()} of {enqueued} tasks\n{worker.output()[-2000:]}",
        give_up=lambda: worker.poll() is not None,
    )
