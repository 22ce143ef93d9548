"""Workers on Redis: what wakes them, what a task costs in round trips, and what they outlive. Real processes and servers."""

from __future__ import annotations

import random
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backroom.redis import Address, server_of
from backroom.tasks.process import GAVE_UP
from backroom.tasks.records import Query
from backroom.tasks.stores.redis import RedisStore
from tests.processes.conftest import children, stop
from tests.redis.conftest import Site
from tests.redis.servers import Proxy, Sentinel, TcpRedis, Valkey, cluster, running
from tests.services.project import Process, wait_until

type MakeSite = Callable[..., Site]
type OwnServer = Callable[..., TcpRedis]


def finished_once(site: Site, ids: list[str], worker: Process) -> None:
    """Check that these tasks are there, that each has succeeded, and that each has run."""
    records = site.records()
    assert sorted(record.id for record in records) == sorted(ids)
    assert {record.state for record in records} == {"successful"}
    assert {int(line) for line in site.lines()} == set(range(len(ids)))
    for record in records:
        assert len(record.worker_ids.split()) == record.attempts == record.crashes + 1
        # Each claim that was made has come to one end.
        assert record.fence % 2 == 0
    assert worker.poll() is None, worker.output()


def test_an_enqueue_wakes_an_idle_worker(make_redis_site: MakeSite, either: TcpRedis) -> None:
    # Nobody would find the tasks by looking before the test is over.
    site = make_redis_site(either.url, poll=600.0)
    queues = [] if isinstance(either, Valkey) else ["--queues", "default"]
    worker = site.worker(*queues)
    wait_until(lambda: "cmd=blpop" in str(either.ask("CLIENT", "LIST")), what="the worker to wait for a ring")
    for number in range(2):
        [task_id] = site.enqueue("effect", str(site.effects), number)
        wait_until(lambda: site.store.get([task_id])[0].state == "successful", what="the task to be run")  # noqa: B023
    site.enqueue("effect", str(site.effects), many=200)
    site.wait_for_states(successful=202)
    # The tokens that nobody took stay few.
    assert int(either.ask("LLEN", "backroom:{default}:bell:")) <= 16
    assert stop(worker) == 0
    assert "store_away" not in worker.output()


def test_what_is_made_ready_again_wakes_one_too(make_redis_site: MakeSite, only: TcpRedis) -> None:
    site = make_redis_site(only.url, poll=600.0)
    site.project.python(
        "from datetime import timedelta\nfrom tests.processes import jobs\n"
        f"jobs.effect.using(run_after=timedelta(days=1)).enqueue({str(site.effects)!r}, 0)"
    )
    worker = site.worker()
    wait_until(lambda: "cmd=blpop" in str(only.ask("CLIENT", "LIST")), what="the worker to wait for a ring")
    assert site.states() == {"deferred": 1}
    site.project.run("backroom", "run-now", "--all")
    site.wait_for_states(successful=1)
    assert stop(worker) == 0


def test_a_task_of_a_drain_costs_a_twentieth_of_a_round_trip_at_most(
    make_redis_site: MakeSite, either: TcpRedis
) -> None:
    site = make_redis_site(either.url)
    count = 4_000
    found: list[int] = []
    # Somebody whose results are late is not waited for, so a machine that has much else to do takes more.
    while not found or (found[-1] > 0.05 * count and len(found) < 4):
        site.enqueue("add", 1, many=count)
        either.ask("CONFIG", "RESETSTAT")
        assert site.worker("--burst", "--threads", "4").wait(timeout=60) == 0
        calls = {name: number for name, number in either.calls().items() if "|" not in name}
        # Inside a script commands are counted too: what comes from outside is the scripts, and these few others.
        found.append(sum(calls.get(name, 0) for name in ("evalsha", "eval", "blpop", "script", "hgetall")))
    assert site.states() == {"successful": count * len(found)}
    assert 0 < found[-1] <= 0.05 * count, found


def test_what_a_task_can_do_it_can_do_here(make_redis_site: MakeSite, only: TcpRedis) -> None:
    site = make_redis_site(only.url, cancel_grace=0.3)
    worker = site.worker()
    effects, gate = str(site.effects), str(site.gate)
    calls = [
        # These two count the lines of their own files.
        ("fails_twice", [f"{effects}-fails"]),
        ("snoozes_twice", [f"{effects}-snoozes"]),
        ("times_out", [effects]),
        ("cancels_politely", [effects]),
        ("counts_to_the_end", [effects, gate]),
    ]
    retried, snoozed, timed_out, polite, progressing = site.enqueue_each(calls)
    site.wait_for_states(successful=2, failed=1, running=2)
    wait_until(lambda: site.store.get([progressing])[0].progress == '[1, 4, "one of four"]', what="the progress")
    site.project.run("backroom", "cancel", polite)
    site.gate.touch()
    site.wait_for_states(successful=3, failed=2)
    # By itself, for it takes everything else of its process with it.
    [killed] = site.enqueue("dies", effects)
    site.wait_for_states(successful=3, failed=3)
    found = {record.id: record for record in site.records()}
    assert (found[retried].attempts, found[retried].failures) == (3, 2)
    assert (found[snoozed].attempts, found[snoozed].state) == (1, "successful")
    assert [found[id_].reason for id_ in (timed_out, polite, killed)] == ["timeout", "cancelled", "lost"]
    assert found[killed].crashes == 3
    assert found[progressing].progress == '[4, 4, "all"]'
    assert stop(worker) == 0


def test_workers_that_are_killed_lose_nothing(make_redis_site: MakeSite, only: TcpRedis) -> None:
    site = make_redis_site(only.url)
    count, chance = 2_000, random.Random(7)
    ids = site.enqueue("effect", str(site.effects), many=count)
    workers = [site.worker("--processes", "2", "--threads", "4") for _ in range(2)]
    for share in (0.1, 0.4, 0.7):
        wait_until(lambda: site.states()["successful"] >= share * count, what="some to be done")  # noqa: B023
        victims = [child for worker in workers for child in children(worker)]
        if victims:
            chance.choice(victims).send_signal(signal.SIGKILL)
    site.wait_for_states(successful=count)
    finished_once(site, ids, workers[0])
    assert [stop(worker) for worker in workers] == [0, 0]


def test_a_server_that_is_killed_in_a_drain_loses_nothing(make_redis_site: MakeSite, own_server: OwnServer) -> None:
    own = own_server(durable=True)
    site = make_redis_site(own.url)
    count = 1_500
    ids = site.enqueue("effect", str(site.effects), many=count)
    worker = site.worker("--threads", "4")
    for share in (0.1, 0.5):
        site.wait_for_some(share * count)
        own.kill()
        own.start()
    site.wait_for_states(successful=count)
    finished_once(site, ids, worker)
    assert stop(worker) == 0
    # One line for each absence, however often it was tried meanwhile.
    assert worker.output().count("action=store_away") <= 2


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_what_was_acknowledged_survives_the_death_of_the_server(
    make_redis_site: MakeSite, own_server: OwnServer, kind: str
) -> None:
    own = own_server(kind, durable=True)
    site = make_redis_site(own.url)
    enqueues = site.project.start(
        "python",
        "-c",
        "import django; django.setup()\nfrom tests.processes import jobs\n"
        "while True:\n    print(jobs.add.enqueue(1, 2).id, flush=True)\n",
    )
    wait_until(lambda: len(enqueues.output().split()) > 300, what="some hundred tasks")
    own.kill()
    wait_until(lambda: enqueues.poll() is not None, what="the enqueue to be told")
    assert "StoreUnavailable" in enqueues.output()
    acknowledged = set(re.findall(r"^[0-9a-f]{32}$", enqueues.output(), re.MULTILINE))
    own.start()
    assert acknowledged <= {record.id for record in site.records()}
    assert len(acknowledged) > 300


@pytest.mark.parametrize("seconds", [1.0, pytest.param(20.0, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_a_network_that_swallows_everything_is_outlived(
    make_redis_site: MakeSite, only: TcpRedis, seconds: float
) -> None:
    proxy = Proxy(only.port)
    site = make_redis_site(proxy.url, direct_url=only.url, timeout=0.5, connect_timeout=0.5, lease=5.0, patience=10.0)
    count = 600
    worker = site.worker("--threads", "2")
    ids = site.enqueue("effect", str(site.effects), many=count)
    site.wait_for_some(50)
    proxy.swallow()
    wait_until(lambda: "action=store_away" in worker.output(), what="the worker to notice")
    cut = site.states()["successful"]
    wait_for(seconds)
    assert site.states()["successful"] == cut
    proxy.heal()
    site.wait_for_states(successful=count, seconds=90)
    finished_once(site, ids, worker)
    assert stop(worker) == 0
    proxy.close()


def test_claims_whose_answer_is_lost_are_found_again_and_count_once(make_redis_site: MakeSite, only: TcpRedis) -> None:
    proxy = Proxy(only.port)
    # No lease runs out in this test.
    site = make_redis_site(proxy.url, direct_url=only.url, timeout=0.5, connect_timeout=0.5, lease=600.0)
    count = 600
    ids = site.enqueue("effect", str(site.effects), many=count)
    # In an answer to a worker this stands only where it was given the task to run.
    proxy.lose(ids[count // 2].encode())
    worker = site.worker("--threads", "2")
    site.wait_for_states(successful=count)
    assert proxy.has_lost
    finished_once(site, ids, worker)
    assert {(record.attempts, record.crashes) for record in site.records()} == {(1, 0)}
    assert len(site.lines()) == count
    assert stop(worker) == 0
    assert "action=store_back" in worker.output()
    proxy.close()


@pytest.mark.soak
def test_what_an_idle_worker_was_brought_in_an_answer_that_is_lost_is_found_too(
    make_redis_site: MakeSite, only: TcpRedis
) -> None:
    proxy = Proxy(only.port)
    site = make_redis_site(proxy.url, direct_url=only.url, timeout=0.5, connect_timeout=0.5, lease=600.0)
    worker = site.worker("--threads", "2")
    wait_until(lambda: "cmd=blpop" in str(only.ask("CLIENT", "LIST")), what="the worker to wait for a ring")
    proxy.lose(b"tests.processes.jobs.effect")
    make_redis_site(only.url).enqueue("effect", str(site.effects), 0)
    wait_until(lambda: proxy.has_lost, what="the claim that waits at the server")
    site.wait_for_states(successful=1)
    [record] = site.records()
    assert (record.attempts, record.crashes, site.lines()) == (1, 0, ["0"])
    assert stop(worker) == 0
    proxy.close()


@pytest.mark.soak
@pytest.mark.parametrize("how", [[], ["--in-process"]])
def test_a_burst_ends_without_its_server_and_says_why(make_redis_site: MakeSite, how: list[str]) -> None:
    worker = make_redis_site("redis://127.0.0.1:1/0").worker("--burst", *how)
    assert worker.wait(timeout=90) == GAVE_UP
    assert "action=store_away" in worker.output()
    assert "action=gave_up" in worker.output()


def wait_for(seconds: float) -> None:
    """Let time pass: a cut of the network has a length, which is what is tested."""
    import time

    deadline = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= deadline, seconds=seconds + 10)


def test_a_server_that_turns_read_only_is_waited_for(make_redis_site: MakeSite, own_server: OwnServer) -> None:
    own = own_server()
    site = make_redis_site(own.url)
    worker = site.worker("--threads", "2")
    ids = site.enqueue("effect", str(site.effects), many=100)
    site.wait_for_states(successful=100)
    own.ask("REPLICAOF", "127.0.0.1", 1)
    wait_until(lambda: "read-only replica" in worker.output(), what="the worker to say why it waits")
    own.ask("REPLICAOF", "NO", "ONE")
    wait_until(lambda: "action=store_back" in worker.output(), what="the worker to go on")
    [last] = site.enqueue("effect", str(site.effects), 100)
    site.wait_for_states(successful=101)
    finished_once(site, [*ids, last], worker)
    assert stop(worker) == 0
    assert worker.output().count("action=store_away") == 1


def test_a_failover_in_a_drain_is_followed(make_redis_site: MakeSite, own_folder: Path) -> None:
    own_folder.mkdir()
    primary = TcpRedis(own_folder / "primary", repl_diskless_sync_delay="0")
    replica = TcpRedis(own_folder / "replica", replicaof=f"127.0.0.1 {primary.port}")
    watcher = Sentinel(own_folder / "sentinel", primary)
    with running(primary, replica, watcher):
        wait_until(lambda: "master_link_status:up" in replica.info("replication"), what="the replica to follow")
        wait_until(lambda: "slaves=1" in watcher.info("sentinel"), what="the Sentinel to know the replica")
        site = make_redis_site(
            "redis://tasks/0",
            direct_url=replica.tcp_url,
            sentinels=[f"127.0.0.1:{watcher.port}"],
            timeout=1.0,
            patience=10.0,
        )
        count = 600
        ids = site.enqueue("effect", str(site.effects), many=count)
        # What the primary acknowledges it may not have passed on yet: docs/how-to/redis.md says so.
        wait_until(lambda: site.store.counts() == {("default", "ready"): count}, what="the replica to have it all")
        worker = site.worker("--threads", "2")
        site.wait_for_some(100)
        primary.kill()
        wait_until(lambda: replica.is_primary, what="the replica to take over")
        # What it had not been told of the last moment is done again.
        ids += site.enqueue("effect", str(site.effects), count)
        site.wait_for_states(successful=count + 1)
        finished_once(site, ids, worker)
        assert stop(worker) == 0


def test_the_outbox_is_emptied_by_a_worker_once_the_server_is_back(
    make_redis_site: MakeSite, own_server: OwnServer
) -> None:
    own = own_server(durable=True)
    site = make_redis_site(own.url, outbox=True)
    own.kill()
    ids = site.enqueue("effect", str(site.effects), many=50)
    assert site.project.query("SELECT count(*) FROM backroom_tasks_outboxrecord") == [(50,)]
    own.start()
    worker = site.worker()
    site.wait_for_states(successful=50)
    finished_once(site, ids, worker)
    assert site.project.query("SELECT count(*) FROM backroom_tasks_outboxrecord") == [(0,)]
    assert stop(worker) == 0


def test_a_cluster_keeps_tasks(make_redis_site: MakeSite, own_folder: Path) -> None:
    shards = 3
    with cluster(own_folder) as nodes:
        url = nodes[0].tcp_url
        site = make_redis_site(url, cluster=True, shards=shards)
        site.store = RedisStore(server_of(Address(url=url, cluster=True)), "default", shards=shards)
        ids = site.enqueue("effect", str(site.effects), many=300)
        site.enqueue("only_one", str(site.effects), 0)
        site.enqueue("only_one", str(site.effects), 0)
        assert site.states() == {"ready": 301}
        assert sum(1 for node in nodes if int(node.ask("DBSIZE"))) > 1
        worker = site.worker("--threads", "2")
        site.wait_for_states(successful=301)
        assert {record.id for record in site.records()} >= set(ids)
        assert len(site.store.find(Query(states=("successful",)), limit=1_000).records) == 301
        site.project.run("backroom", "status")
        site.project.run("backroom", "retry", ids[0])
        wait_until(lambda: site.store.get([ids[0]])[0].attempts == 2)
        assert stop(worker) == 0


def test_a_child_imports_nothing_that_its_supervisor_has_not(make_redis_site: MakeSite, only: TcpRedis) -> None:
    site = make_redis_site(only.tcp_url)
    site.enqueue("effect", str(site.effects), 0)
    # What a child imports by itself lies in memory as often as there are children. The interpreter is a new one, in
    # which nothing has been imported by others.
    code = (
        "import sys, django\n"
        "django.setup()\n"
        "from backroom.tasks.board import Board, shared_memory\n"
        "from backroom.tasks.process import ProcessSettings, WorkerProcess\n"
        "from backroom.tasks.supervisor import warm_up\n"
        "from tests.processes import jobs\n"
        "assert jobs\n"
        "memory = shared_memory(12)\n"
        "warm_up('default')\n"
        "known = set(sys.modules)\n"
        "settings = ProcessSettings('default', (), 2, 10, 5.0, True, None, None, None)\n"
        "assert WorkerProcess(settings, 'one', Board(memory)).run() == 0\n"
        "print(sorted(set(sys.modules) - known))\n"
    )
    said = site.project.call(sys.executable, "-c", code).stdout
    assert site.lines() == ["0"]
    assert said.strip() == "[]"
