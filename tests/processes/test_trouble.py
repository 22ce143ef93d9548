"""What a worker promises when things go wrong: killed, paused, overrun, cut off from its database."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable

import psutil
import psycopg
import pytest

from backroom.clock import after
from tests.processes.conftest import Site, children, is_running, stop
from tests.services.project import Project, wait_until
from tests.services.servers import PostgresServer


def test_workers_killed_at_random_lose_nothing_and_finish_each_task_once(site: Site) -> None:
    many = 5_000
    site.enqueue("effect_by", str(site.effects), many=many)
    # One crash too many for a task is a fate of its own, tested below; here each kill must be survived.
    site.project.add_settings("TASKS['default']['OPTIONS'] = {'crash_budget': 1000}")
    worker = site.worker("--processes", "2", "--threads", "2")
    chance = random.Random(7)
    killed: set[int] = set()
    # So many deaths in a row have the supervisor wait longer and longer: the soak test has more of them.
    for milestone in range(many // 9, many, many // 9):
        wait_until(lambda: len(site.lines()) >= milestone, seconds=90, what=lambda: f"{site.states()}")  # noqa: B023
        if victims := [child for child in children(worker) if is_running(child.pid)]:
            victim = chance.choice(victims)
            victim.kill()
            killed.add(victim.pid)
    site.wait_for_states(successful=many, seconds=90)
    assert stop(worker) == 0
    assert len(killed) >= 5
    assert site.states() == {"successful": many}

    runs: dict[int, list[int]] = {}
    for line in site.lines():
        number, pid = map(int, line.split())
        runs.setdefault(number, []).append(pid)
    assert set(runs) == set(range(many))
    # Every run too many is explained: a process that was killed had made it and had not committed it yet.
    again = {number: pids for number, pids in runs.items() if len(pids) > 1}
    assert all(set(pids[:-1]) <= killed for pids in again.values()), again
    print(f"{len(killed)} processes killed, {sum(len(pids) - 1 for pids in again.values())} runs repeated")


def test_a_killed_processs_tasks_start_again_without_waiting_for_the_lease(site: Site) -> None:
    site.project.add_settings("TASKS['default']['OPTIONS'] = {'lease': 600.0}")
    site.enqueue("gated", str(site.effects), str(site.gate))
    worker = site.worker()
    killed = int(site.wait_for_line("begin 1").split()[2])
    os.kill(killed, signal.SIGKILL)
    site.wait_for_line("begin 2")
    site.open_gate()
    site.wait_for_states(successful=1)
    assert stop(worker) == 0


def test_a_killed_machines_tasks_start_elsewhere_within_the_lease(make_site: Callable[..., Site]) -> None:
    site = make_site(lease=2.0)
    site.enqueue("gated", str(site.effects), str(site.gate))
    lost = site.worker()
    site.wait_for_line("begin 1")
    # Supervisor and child at once: nobody is left who could say that they died.
    processes = [psutil.Process(lost.pid), *children(lost)]
    for process in processes:
        process.kill()
    other = site.worker()
    site.wait_for_line("begin 2")
    site.open_gate()
    site.wait_for_states(successful=1)
    assert stop(other) == 0


def test_a_worker_that_lost_its_lease_cannot_finish(make_site: Callable[..., Site]) -> None:
    site = make_site(lease=3.0)
    [task_id] = site.enqueue("gated", str(site.effects), str(site.gate))
    paused = site.worker()
    pid = int(site.wait_for_line("begin 1").split()[2])
    os.kill(pid, signal.SIGSTOP)
    other = site.worker()
    taker = site.wait_for_line("begin 2").split()[2]
    site.open_gate()
    site.wait_for_states(successful=1)
    result, fence = site.column("result", task_id), site.column("fence", task_id)
    os.kill(pid, signal.SIGCONT)
    paused.wait_for_output("lease_lost")
    assert (site.column("result", task_id), site.column("fence", task_id)) == (result, fence)
    assert taker != str(pid)
    assert [stop(paused), stop(other)] == [0, 0]


def test_a_worker_that_lives_keeps_its_lease_however_long_the_task_takes(make_site: Callable[..., Site]) -> None:
    site = make_site(lease=6.0)
    [task_id] = site.enqueue("gated", str(site.effects), str(site.gate))
    workers = [site.worker("--threads", "1"), site.worker("--threads", "1")]
    site.wait_for_line("begin 1")
    first, holder = site.column("lease_until", task_id), site.column("worker_id", task_id)
    # Longer than a lease, and idle workers beside it that look for lost ones.
    wait_until(lambda: site.column("lease_until", task_id) > after(first, 7), what="the lease to be renewed")
    assert site.column("worker_id", task_id) == holder
    site.open_gate()
    site.wait_for_states(successful=1)
    assert (site.column("attempts", task_id), site.column("crashes", task_id)) == (1, 0)
    assert [stop(worker) for worker in workers] == [0, 0]


def test_a_task_that_kills_its_workers_fails_when_its_crash_budget_is_spent(site: Site) -> None:
    [task_id] = site.enqueue("dies", str(site.effects))
    worker = site.worker()
    site.wait_for_states(failed=1)
    assert len(site.lines()) == 3
    assert site.column("reason", task_id) == "lost"
    assert "crash budget" in site.column("errors", task_id)
    site.enqueue("add", 1, 2)
    site.wait_for_states(successful=1)
    assert stop(worker) == 0


def test_a_timeout_is_raised_in_the_task_first(site: Site) -> None:
    worker = site.worker()
    [in_thread] = site.enqueue("times_out", str(site.effects))
    [in_loop] = site.enqueue("times_out_in_loop", str(site.effects))
    site.wait_for_states(failed=2)
    assert site.lines() == ["cleaned up", "cleaned up"]
    assert {site.column("reason", task_id) for task_id in (in_thread, in_loop)} == {"timeout"}
    assert stop(worker) == 0


def test_a_hard_timeout_takes_its_own_process_and_hands_the_neighbours_back(make_site: Callable[..., Site]) -> None:
    site = make_site(timeout_grace=0.5)
    [neighbour] = site.enqueue("gated", str(site.effects), str(site.gate))
    worker = site.worker("--processes", "1", "--threads", "2")
    site.wait_for_line("begin 1")
    [overrun] = site.enqueue("overruns", str(site.effects))
    killed = int(site.wait_for_line("overruns").split()[1])
    wait_until(lambda: not is_running(killed), what="the end of the process that overran")
    site.wait_for_states(failed=1)
    assert site.column("reason", overrun) == "timeout"
    # Begun again, and not counted against it.
    wait_until(lambda: sum(line.startswith("begin 1") for line in site.lines()) == 2, what="the neighbour's new start")
    assert site.column("crashes", neighbour) == 0
    site.open_gate()
    site.wait_for_states(successful=1, failed=1)
    assert stop(worker) == 0


def test_a_running_task_is_cancelled_politely_then_by_exception_then_by_force(make_site: Callable[..., Site]) -> None:
    site = make_site(cancel_grace=0.5)
    worker = site.worker()
    cancel = "from backroom.tasks import control\nprint(len(control.cancel(['{}'])))"
    ways = {"cancels_politely": "cleaned up", "cancels_by_exception": "interrupted", "cancels_by_force": "ignored"}
    for number, (name, end) in enumerate(ways.items(), 1):
        site.effects.write_text("")
        [task_id] = site.enqueue(name, str(site.effects))
        site.wait_for_line("begin")
        assert site.project.python(cancel.format(task_id)).strip() == "1"
        site.wait_for_states(failed=number)
        assert site.column("reason", task_id) == "cancelled"
        assert site.lines()[-1] == end
    assert stop(worker) == 0


def test_children_of_a_killed_supervisor_stop_by_themselves(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.enqueue("gated", str(site.effects), str(site.gate))
    worker = site.worker()
    site.wait_for_line("begin")
    [child] = children(worker)
    worker.kill()
    worker.wait()
    site.open_gate()
    wait_until(lambda: not is_running(child.pid), what="the orphan's end")
    assert site.states() == {"successful": 1}


def test_a_database_that_restarts_in_the_middle_loses_nothing(
    make_project: Callable[..., Project], own_postgres_server: PostgresServer, tmp_path
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(make_project("postgres", postgres=own_postgres_server), folder)
    site.enqueue("effect", str(site.effects), many=4000)
    worker = site.worker("--processes", "2")
    wait_until(lambda: len(site.lines()) > 400, what="the first effects")
    own_postgres_server.kill()
    worker.wait_for_output("store_away")
    own_postgres_server.start()
    wait_until(lambda: _quietly(site) == {"successful": 4000}, seconds=90, what=lambda: f"{_quietly(site)}")
    assert worker.output().count("store_away") <= 4
    assert set(map(int, site.lines())) == set(range(4000))
    assert stop(worker) == 0


CLAIM = """
import json
from django.tasks import task_backends
from backroom.tasks.stores.base import Request
backend = task_backends["default"]
now = backend.clock.now()
backend.store.counts()
rung = Request(("default",), 1, "{worker}", now, now + 60_000_000, is_expected=True, is_rung=True)
print(json.dumps(backend.store.claim(rung)))
"""
FINISH = """
from django.tasks import task_backends
from backroom.tasks.records import Record, Succeeded
backend = task_backends["default"]
claims = [Record._make(claim) for claim in {claims}]
ends = [backend.attempts.ended(claim, Succeeded("null")).transition for claim in claims]
print([bool(backend.store.apply([end])) for end in ends])
"""


def test_a_claim_that_the_database_forgot_in_a_crash_cannot_be_finished(
    make_project: Callable[..., Project], own_postgres_server: PostgresServer, tmp_path
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(make_project("postgres", postgres=own_postgres_server), folder)
    # What did not wait for the disk is written to it by then.
    own_postgres_server.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    own_postgres_server.restart()
    for worker in map(str, range(5)):
        [task_id] = site.enqueue("effect", str(site.effects))
        [forgotten] = json.loads(site.project.python(CLAIM.replace("{worker}", f"first {worker}")))
        own_postgres_server.kill()
        own_postgres_server.start()
        if site.column("state", task_id) == "ready":
            break
        # It was written just then.
        site.project.python(FINISH.replace("{claims}", repr([forgotten])))
    else:
        pytest.fail("The database forgot none of five claims.")
    [claimed] = json.loads(site.project.python(CLAIM.replace("{worker}", "second")))
    assert claimed[0] == forgotten[0] == task_id
    finished = site.project.python(FINISH.replace("{claims}", repr([forgotten, claimed])))
    assert finished.strip() == "[False, True]"
    assert site.column("state", task_id) == "successful"


def _quietly(site: Site) -> Counter[str] | None:
    try:
        return site.states()
    except psycopg.Error:
        return None


def test_processes_that_race_for_one_unique_key_enqueue_one_task(site: Site) -> None:
    race = (
        "import sys, threading\n"
        "from tests.processes import jobs\n"
        "from django.db import connections\n"
        "ids, start = set(), threading.Barrier(10)\n"
        "def go(number):\n"
        "    start.wait()\n"
        f"    ids.add(jobs.only_one.enqueue({str(site.effects)!r}, number).id)\n"
        "    connections.close_all()\n"
        "threads = [threading.Thread(target=go, args=(number,)) for number in range(10)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "import json; print(json.dumps(sorted(ids)))\n"
    )
    racers = [site.project.start("python", "-c", f"import django; django.setup()\n{race}") for _ in range(5)]
    assert [racer.wait(timeout=60) for racer in racers] == [0] * 5
    winners = {task_id for racer in racers for task_id in json.loads(racer.output().splitlines()[-1])}
    assert len(winners) == 1
    assert site.states() == {"ready": 1}


def test_two_workers_and_a_writing_site_share_one_sqlite_file(make_site: Callable[..., Site]) -> None:
    site = make_site()
    web = (
        "from django.contrib.auth.models import Group\n"
        "from django.db import transaction\n"
        "from tests.processes import jobs\n"
        "for number in range(400):\n"
        "    with transaction.atomic():\n"
        "        Group.objects.create(name=f'group {number}')\n"
        f"        jobs.effect.enqueue({str(site.effects)!r}, number)\n"
        "    list(Group.objects.all()[:10])\n"
    )
    workers = [site.worker("--threads", "2"), site.worker("--threads", "2")]
    writers = [
        site.project.start("python", "-c", f"import django; django.setup()\n{web.replace('group {', f'{name} {{')}")
        for name in "ab"
    ]
    assert [writer.wait(timeout=90) for writer in writers] == [0, 0], [writer.output()[-500:] for writer in writers]
    site.wait_for_states(successful=800)
    assert Counter(map(int, site.lines())) == Counter(dict.fromkeys(range(400), 2))
    assert [stop(worker) for worker in workers] == [0, 0]
    assert "locked" not in "".join(process.output() for process in [*workers, *writers])
