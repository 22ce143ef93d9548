"""Tasks in ordinary Celery workers mean what they mean in ours."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from tests.celery.conftest import CelerySite
from tests.processes.conftest import is_running
from tests.services.project import wait_until
from tests.services.servers import RedisServer

POOLS = pytest.mark.parametrize("pool", ["prefork", "threads"])


@POOLS
def test_tasks_run_in_an_ordinary_celery_worker(celery_site: CelerySite, pool: str) -> None:
    site = celery_site
    worker = site.celery(pool=pool, concurrency=2)
    names = [site.effects.with_name(name) for name in ("snoozes", "fails")]
    sum_id, late_id, *_ = site.enqueue_all(
        ("add", [1, 2], ""),
        ("add", [3, 4], "run_after=timedelta(seconds=0.5)"),
        *[("effect", [str(site.effects), number], "") for number in range(20)],
        ("add_in_loop", [3, 4], ""),
        ("exits", [], ""),
        ("snoozes_twice", [str(names[0])], ""),
        ("fails_twice", [str(names[1])], ""),
        ("creates_group", ["atomic"], ""),
    )
    site.wait_for_states(successful=26, failed=1)
    assert sorted(map(int, site.lines())) == list(range(20))
    assert [site.column("result", each) for each in (sum_id, late_id)] == ["3", "7"]
    assert site.project.query("SELECT name FROM auth_group") == [("atomic",)]
    # Celery's log has no argument of theirs.
    assert f"{sum_id}.0" in worker.output()
    assert str(site.effects) not in worker.output()
    assert worker.stop() == 0
    assert site.project.query("SELECT count(*) FROM backroom_tasks_workerrecord") == [(0,)]


def test_children_that_make_way_after_so_many_tasks_lose_none(celery_site: CelerySite) -> None:
    site = celery_site
    count, most = 80, 20
    worker = site.celery("--max-tasks-per-child", str(most), concurrency=2)
    site.enqueue("effect", str(site.effects), many=count)
    site.wait_for_states(successful=count)
    assert sorted(map(int, site.lines())) == list(range(count))
    assert site.project.query("SELECT DISTINCT attempts, crashes FROM backroom_tasks_taskrecord") == [(1, 0)]
    ran = [
        how_many
        for (how_many,) in site.project.query("SELECT count(*) FROM backroom_tasks_taskrecord GROUP BY worker_ids")
    ]
    assert max(ran) <= most
    # Each that made way has taken leave, and none was taken for dead.
    assert worker.stop() == 0
    assert "action=worker_died" not in worker.output()
    assert site.project.query("SELECT count(*) FROM backroom_tasks_workerrecord") == [(0,)]


def test_a_prefork_worker_stops_what_must_stop(make_celery_site: Callable[..., CelerySite]) -> None:
    site = make_celery_site(timeout_grace=0.3, cancel_grace=0.3)
    site.celery(concurrency=3)
    effects = str(site.effects)
    _, _, overrun = site.enqueue_all(
        *[(name, [effects], "") for name in ("times_out", "times_out_in_loop", "overruns")]
    )
    pid = int(site.wait_for_line("overruns").split()[1])
    site.wait_for_states(failed=3)
    assert site.lines().count("cleaned up") == 2
    assert site.column("reason", overrun) == "timeout"
    wait_until(lambda: not is_running(pid), what="the end of the child")
    names = ("cancels_politely", "cancels_by_exception", "cancels_by_force")
    ids = site.enqueue_all(*[(name, [effects], "") for name in names])
    site.wait_for_states(running=3)
    site.project.run("backroom", "cancel", *ids)
    site.wait_for_states(failed=6)
    assert [site.column("reason", task_id) for task_id in ids] == ["cancelled"] * 3
    assert [site.column("crashes", task_id) for task_id in ids] == [0] * 3
    # The child that took the place of one that was ended works.
    site.enqueue("add", 1, 2)
    site.wait_for_states(successful=1, failed=6)


def test_a_worker_of_threads_gives_up_on_what_it_cannot_end(make_celery_site: Callable[..., CelerySite]) -> None:
    site = make_celery_site(timeout_grace=0.3, cancel_grace=0.3)
    worker = site.celery(pool="threads", concurrency=3)
    effects = str(site.effects)
    names = ("times_out", "overruns", "cancels_by_force")
    timed_out, overrun, forced = site.enqueue_all(*[(name, [effects], "") for name in names])
    site.wait_for_line("begin")
    site.project.run("backroom", "cancel", forced)
    site.wait_for_states(failed=3)
    assert [site.column("reason", each) for each in (timed_out, overrun, forced)] == ["timeout", "timeout", "cancelled"]
    assert worker.output().count("action=given_up") == 2
    site.enqueue("add", 1, 2)
    site.wait_for_states(successful=1, failed=3)


def test_progress_is_seen_while_a_task_runs(make_celery_site: Callable[..., CelerySite]) -> None:
    site = make_celery_site()
    site.celery()
    [task_id] = site.enqueue("counts_to_the_end", str(site.effects), str(site.gate))
    wait_until(lambda: site.column("progress", task_id) == '[1, 4, "one of four"]', what="progress")
    status = site.project.run("backroom", "status").stdout
    assert "default" in status
    assert site.project.query("SELECT running FROM backroom_tasks_workerrecord") in ([(0,)], [(1,)])
    site.open_gate()
    site.wait_for_states(successful=1)
    assert site.column("progress", task_id) == '[4, 4, "all"]'


def test_records_may_be_kept_in_redis(make_celery_site: Callable[..., CelerySite], redis_server: RedisServer) -> None:
    prefix = f"test-{os.urandom(4).hex()}"
    keeper = {
        "BACKEND": "backroom.tasks.backends.redis.RedisBackend",
        "OPTIONS": {"url": f"unix://{redis_server.socket}", "prefix": prefix},
    }
    hurried = "INSTALLED_APPS.append('tests.celery.hurried.Hurried')\n"
    site = make_celery_site(settings=f"TASKS['records'] = {keeper!r}\n{hurried}", resend_after=5.0)
    # It starts while they are enqueued, and ends while the figures are read: each takes seconds.
    worker = site.celery(concurrency=2, wait=False)
    site.enqueue_all(
        *[("effect", [str(site.effects), number], "") for number in range(10)],
        ("fails_twice", [str(site.effects.with_name("fails"))], ""),
        # It is none of those that are sent at once: the upkeep of a worker sends it.
        ("add", [1, 2], "run_after=timedelta(seconds=1)"),
        ("gated", [str(site.effects), str(site.gate)], ""),
    )
    pid = int(site.wait_for_line("begin 1").split()[2])
    # First in line for the upkeep may be the child that is about to be killed; the other one takes its time to step in.
    wait_until(lambda: worker.output().count("action=succeeded") == 12, seconds=90, what="12 successes")
    next(child for child in worker.children() if child.pid == pid).kill()
    site.wait_for_line("begin 2")
    site.open_gate()
    wait_until(lambda: worker.output().count("action=succeeded") == 13, seconds=90, what="13 successes")
    worker.process.terminate()
    status = json.loads(site.project.run("backroom", "status", "--json", "--backend", "default").stdout)
    assert sum(queue["successful"] for queue in status["backends"][0]["queues"]) == 13
    assert sorted(int(line) for line in site.lines() if line.isdecimal()) == list(range(10))
    assert worker.process.wait(timeout=60) == 0
