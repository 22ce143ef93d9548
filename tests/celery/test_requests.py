"""What Celery's main process does with messages of ours: revokes them, and gives them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backroom.celery import requests
from tests.celery.conftest import APP, CelerySite
from tests.services.project import wait_until
from tests.services.servers import RabbitServer

IMPATIENT = """
from celery.signals import worker_init


@worker_init.connect(weak=False)
def hold_nothing(**_kwargs):
    from backroom.celery import requests

    requests.HELD, requests.LOOK = 0.5, 0.2
"""


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_celery_is_told_to_revoke_is_cancelled(make_celery_site: Callable[..., CelerySite], pool: str) -> None:
    site = make_celery_site(cancel_grace=0.3)
    worker = site.celery(pool=pool)
    effects = str(site.effects)
    running, waiting, spared = site.enqueue_all(
        ("cancels_by_exception", [effects], ""), ("effect", [effects, 1], ""), ("effect", [effects, 2], "")
    )
    site.wait_for_line("begin")
    wait_until(lambda: worker.output().count(" received") == 3, what="all messages to be fetched")
    site.project.python(
        f"""
from mysite.celery import app
# What threads have in their queue Celery looks at no more, unless it is to be terminated.
app.control.revoke([{waiting + ".0"!r}], terminate={pool == "threads"})
app.control.revoke([{running + ".0"!r}], terminate=True)
"""
    )
    site.wait_for_states(failed=2, successful=1)
    assert [site.column("reason", each) for each in (running, waiting, spared)] == ["cancelled", "cancelled", ""]
    assert site.lines() == ["begin", "interrupted", "2"]
    assert worker.stop() == 0


def test_what_waits_behind_a_long_task_goes_back_to_rabbitmq_and_to_whoever_has_time(
    make_celery_site: Callable[..., CelerySite],
) -> None:
    site = make_celery_site("rabbit")
    site.project.write("mysite/celery.py", APP + IMPATIENT)
    site.enqueue("gated", str(site.effects), str(site.gate))
    busy = site.celery()
    site.wait_for_line("begin 1")
    site.enqueue("effect", str(site.effects), many=3)
    wait_until(lambda: busy.output().count(" received") >= 4, what="messages to be fetched ahead")
    site.celery()
    site.wait_for_states(successful=3, running=1)
    site.open_gate()
    site.wait_for_states(successful=4)
    assert sorted(line for line in site.lines() if line.isdecimal()) == ["0", "1", "2"]
    assert busy.stop() == 0


class ImpatientRabbit(RabbitServer):
    """Ends consumers that owe it an answer for longer than two seconds."""

    def prepare(self) -> None:
        super().prepare()
        settings = "[{rabbit, [{consumer_timeout, 2000}, {channel_tick_interval, 500}]}]."
        (self.folder / "advanced.config").write_text(settings)

    def command(self) -> list[str]:
        env, *rest = super().command()
        return [env, f"RABBITMQ_ADVANCED_CONFIG_FILE={self.folder}/advanced.config", *rest]


@pytest.fixture
def impatient_rabbit(own_folder: Path) -> Iterator[RabbitServer]:
    server = ImpatientRabbit(own_folder / "rabbit")
    server.start()
    yield server
    server.stop()


@pytest.mark.soak
def test_rabbitmq_ends_no_worker_over_what_waits_behind_a_long_task(
    make_celery_site: Callable[..., CelerySite], impatient_rabbit: RabbitServer
) -> None:
    site = make_celery_site(impatient_rabbit.url)
    site.project.write("mysite/celery.py", APP + IMPATIENT)
    site.enqueue("slow", str(site.effects), 8)
    site.enqueue("effect", str(site.effects), many=3)
    worker = site.celery()
    site.wait_for_states(successful=4)
    assert "PreconditionFailed" not in worker.output()
    assert worker.stop() == 0


class Arrived(requests.Message):
    """A message as it was when it came so long ago."""

    def __init__(self, received_at: float, *, acknowledged: bool = False) -> None:
        self.received_at = received_at
        self.acknowledged = acknowledged
        self.was_requeued = False

    def reject(self, requeue: bool = False) -> None:
        self.was_requeued = requeue

    __hash__ = object.__hash__


def test_only_what_is_ours_and_has_waited_for_long_and_was_not_begun_goes_back(monkeypatch):
    monkeypatch.setattr(requests, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    fresh, old, begun, answered = Arrived(881.0), Arrived(880.0), Arrived(880.0), Arrived(880.0, acknowledged=True)
    theirs: Any = object()
    monkeypatch.setattr(requests, "reserved_requests", {fresh, old, begun, answered, theirs})
    monkeypatch.setattr(requests, "active_requests", {begun})
    requests.give_back()
    assert [each.was_requeued for each in (fresh, old, begun, answered)] == [False, True, False, False]
