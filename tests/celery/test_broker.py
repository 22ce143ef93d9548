"""What becomes of tasks when messages are lost, doubled and late, and when the broker is away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.celery.conftest import CelerySite
from tests.services.project import wait_until
from tests.services.servers import RabbitServer, RedisServer


def test_messages_that_the_broker_lost_are_sent_again(celery_site: CelerySite) -> None:
    site = celery_site
    site.project.add_settings("TASKS['default']['OPTIONS']['resend_after'] = 1")
    site.enqueue("effect", str(site.effects), many=30)
    wait_until(lambda: site.depth() == 30, what="all that was sent")
    site.purge()
    site.celery(concurrency=2)
    site.wait_for_states(successful=30)
    assert sorted(map(int, site.lines())) == list(range(30))


def test_a_message_that_comes_twice_runs_its_task_once(celery_site: CelerySite) -> None:
    site = celery_site
    site.project.python(
        f"""
from backroom.tasks import enqueue_many
from django.tasks import task_backends
from backroom.tasks.records import Query
from tests.processes import jobs
enqueue_many(jobs.effect, [(({str(site.effects)!r}, number), {{}}) for number in range(10)])
backend = task_backends["default"]
records = backend.store.find(Query()).records
for _ in range(2):
    assert len(backend.deliver(records).ids) == 10
"""
    )
    wait_until(lambda: site.depth() == 30, what="all that was sent")
    site.celery(concurrency=2)
    site.wait_for_states(successful=10)
    wait_until(lambda: site.depth() == 0, what="the broker's queue to be empty")
    assert sorted(map(int, site.lines())) == list(range(10))


def test_an_operators_retry_sends_a_message(make_celery_site: Callable[..., CelerySite]) -> None:
    site = make_celery_site()
    worker = site.celery()
    task_id, later = site.enqueue_all(("exits", [], ""), ("add", [1, 2], "run_after=timedelta(days=1)"))
    site.wait_for_states(failed=1, deferred=1)
    site.project.run("backroom", "retry", task_id)
    site.project.run("backroom", "run-now", later)
    site.wait_for_states(failed=1, successful=1)
    wait_until(lambda: site.column("attempts", task_id) == 2, what="the second attempt")
    assert worker.stop() == 0


def address_of(broker: RabbitServer | RedisServer) -> str:
    return broker.url if isinstance(broker, RabbitServer) else f"redis+socket://{broker.socket}"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(partial(RedisServer, durable=True), id="redis"),
        pytest.param(RabbitServer, id="rabbit", marks=pytest.mark.soak),
    ],
)
def test_an_enqueue_outlives_the_brokers_absence(
    make_celery_site: Callable[..., CelerySite], own_folder: Path, kind: Callable[[Path], RabbitServer | RedisServer]
) -> None:
    broker = kind(own_folder / "broker")
    broker.start()
    try:
        site = make_celery_site(address_of(broker), resend_after=1)
        worker = site.celery()
        site.enqueue("add", 1, 2)
        site.wait_for_states(successful=1)
        broker.kill()
        # Neither an error nor a long wait: the command that enqueues is through.
        site.enqueue("effect", str(site.effects), many=5)
        site.wait_for_states(ready=5)
        broker.start()
        site.enqueue("effect", str(site.effects), many=5)
        site.wait_for_states(successful=11, seconds=60)
        assert sorted(site.lines()) == sorted([*"01234"] * 2)
        assert worker.process.poll() is None
    finally:
        broker.stop()


def test_a_process_that_would_not_wait_for_the_broker_sends_what_it_enqueued_before_it_ends(
    make_celery_site: Callable[..., CelerySite],
) -> None:
    site = make_celery_site(send_timeout=0.001)
    site.enqueue_all(*[("add", [number, 1], "") for number in range(5)])
    wait_until(lambda: site.depth() == 5, what="all that was sent")


def test_an_absent_broker_is_told_of_once(make_celery_site: Callable[..., CelerySite], tmp_path: Path) -> None:
    site = make_celery_site(f"redis+socket://{tmp_path}/nobody.sock")
    printed = site.project.call(
        "python",
        "-c",
        """
import django
django.setup()
from tests.processes.jobs import add
for number in range(20):
    add.enqueue(number, 1)
""",
    )
    assert printed.stderr.count("action=broker_away") == 1
    site.wait_for_states(ready=20)


def test_nothing_is_sent_before_the_commit_or_after_a_rollback(make_celery_site: Callable[..., CelerySite]) -> None:
    site = make_celery_site()
    site.project.python(
        f"""
from django.db import transaction
from django.tasks import task_backends
from tests.processes.jobs import add
transport = task_backends["default"].transport
with transaction.atomic():
    kept = add.enqueue(1, 2)
    assert kept.id and transport.depth({site.queue!r}) == 0
    try:
        with transaction.atomic():
            add.enqueue(3, 4)
            raise ValueError
    except ValueError:
        pass
assert transport.depth({site.queue!r}) == 1
"""
    )
    assert site.states() == {"ready": 1}
