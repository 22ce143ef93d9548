"""What becomes of tasks when a child, a worker or a machine ends, in good order or not."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

import pytest

from tests.celery.conftest import CelerySite
from tests.services.project import wait_until


def test_a_killed_child_costs_its_task_no_lease(make_celery_site: Callable[..., CelerySite]) -> None:
    # Nobody waits for a lease of ten minutes here.
    site = make_celery_site("rabbit", lease=600)
    worker = site.celery(concurrency=2)
    [task_id] = site.enqueue("gated", str(site.effects), str(site.gate))
    pid = int(site.wait_for_line("begin 1").split()[2])
    next(child for child in worker.children() if child.pid == pid).kill()
    site.wait_for_line("begin 2")
    site.open_gate()
    site.wait_for_states(successful=1)
    assert (site.column("attempts", task_id), site.column("crashes", task_id)) == (2, 1)
    assert worker.output().count("action=worker_died") == 1


def test_a_task_that_kills_its_worker_has_a_budget(make_celery_site: Callable[..., CelerySite]) -> None:
    site = make_celery_site(crash_budget=2)
    site.celery()
    [task_id] = site.enqueue("dies", str(site.effects))
    site.wait_for_states(failed=1)
    assert site.column("reason", task_id) == "lost"
    assert len(site.lines()) == 2


@pytest.mark.parametrize(("pool", "broker"), [("prefork", "rabbit"), ("threads", "redis")])
def test_another_worker_takes_over_from_one_that_was_killed(
    make_celery_site: Callable[..., CelerySite], pool: str, broker: str
) -> None:
    site = make_celery_site(broker, lease=3)
    killed = site.celery(pool=pool, concurrency=2)
    site.enqueue("gated", str(site.effects), str(site.gate))
    waiting = site.enqueue("effect", str(site.effects), many=6)
    site.wait_for_line("begin 1")
    killed.kill()
    other = site.celery(pool=pool, concurrency=2)
    site.wait_for_line("begin 2")
    site.open_gate()
    site.wait_for_states(successful=1 + len(waiting))
    assert Counter(line for line in site.lines() if line.isdecimal()) == Counter(map(str, range(6)))
    assert other.stop() == 0


def test_what_a_worker_holds_that_is_told_to_end_at_once_goes_back(make_celery_site: Callable[..., CelerySite]) -> None:
    site = make_celery_site("rabbit")
    first = site.celery()
    [task_id] = site.enqueue("gated", str(site.effects), str(site.gate))
    site.wait_for_line("begin 1")
    first.process.terminate()
    first.process.wait_for_output("Warm shutdown")
    first.process.send_signal(signal.SIGQUIT)
    first.process.wait(60)
    assert site.column("state", task_id) == "ready"
    assert (site.column("attempts", task_id), site.column("crashes", task_id)) == (0, 0)
    site.celery()
    wait_until(lambda: len(site.lines()) == 2, what="the second run")
    site.open_gate()
    site.wait_for_states(successful=1)
    assert site.column("attempts", task_id) == 1


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_that_can_kill_nothing_hands_back_in_a_cold_shutdown(
    make_celery_site: Callable[..., CelerySite], pool: str
) -> None:
    site = make_celery_site()
    first = site.celery(pool=pool)
    [task_id] = site.enqueue("gated", str(site.effects), str(site.gate))
    site.wait_for_line("begin 1")
    first.process.send_signal(signal.SIGQUIT)
    wait_until(lambda: site.column("state", task_id) == "ready", what="the task to be handed back")
    assert (site.column("attempts", task_id), site.column("failures", task_id)) == (0, 0)
    site.open_gate()
    first.process.wait(60)
    assert "NotImplementedError" not in first.output()
    # What it found before it ended was not taken.
    assert site.column("state", task_id) == "ready"
