"""How signals are sent: cheaply when nobody listens, and so that no receiver's failure goes any further."""

import asyncio
import functools
import logging
import threading
from typing import Any

import pytest
from django.dispatch import Signal
from django.tasks.signals import task_enqueued

from backroom.tasks import enqueue_many
from backroom.tasks.signals import asend, has_receivers, send
from tests.tasks import work

pytestmark = pytest.mark.django_db


def raises(**_named):
    raise ValueError("on purpose")


def leaves(**_named):
    raise SystemExit(3)


def is_cancelled(**_named):
    raise asyncio.CancelledError


async def raises_later(**_named):
    raise ValueError("on purpose")


# Django's send_robust looks for the __qualname__ of a receiver that failed.
nameless = functools.partial(raises)


@pytest.mark.parametrize("receiver", [raises, leaves, is_cancelled, raises_later, nameless])
def test_a_receiver_that_fails_is_logged_and_goes_no_further(receiver, caplog):
    signal = Signal()
    signal.connect(receiver, weak=False)
    send(signal, object)
    asyncio.run(asend(signal, object))
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


@pytest.mark.parametrize("receiver", [raises, nameless])
def test_a_receiver_that_fails_leaves_enqueue_whole(backend, receiver, enqueued_tasks):
    task_enqueued.connect(receiver, weak=False)
    try:
        result = work.note.using(backend=backend.alias).enqueue(1)
        results: list[Any] = enqueue_many(work.note.using(backend=backend.alias), [((2,), {}), ((3,), {})])
    finally:
        task_enqueued.disconnect(receiver)
    assert backend.get_result(result.id).args == [1]
    assert [each.args for each in results] == [[2], [3]]


def test_from_a_loop_plain_receivers_run_in_a_thread_and_async_ones_in_the_loop():
    signal, ran_in = Signal(), {}

    def plain(**_named):
        ran_in["plain"] = threading.current_thread()

    async def in_loop(**_named):
        ran_in["async"] = threading.current_thread()

    signal.connect(plain)
    signal.connect(in_loop)
    asyncio.run(asend(signal, object))
    assert ran_in["async"] is threading.current_thread()
    assert ran_in["plain"] is not threading.current_thread()


def test_a_signal_that_nobody_hears_is_not_sent(backend, monkeypatch, caplog):
    sent = []
    monkeypatch.setattr("backroom.tasks.backends.base.send", lambda *_args, **_named: sent.append(1))
    task = work.note.using(backend=backend.alias)
    with caplog.at_level(logging.INFO, logger="django.tasks"):
        task.enqueue(1)
        enqueue_many(task, [((1,), {})])
    assert sent == []
    with caplog.at_level(logging.DEBUG, logger="django.tasks"):
        task.enqueue(1)
        enqueue_many(task, [((1,), {})])
    assert sent == [1, 1]


def test_any_receiver_beside_djangos_own_counts():
    assert not has_receivers(task_enqueued)
    task_enqueued.connect(raises, sender=object)
    try:
        assert has_receivers(task_enqueued)
    finally:
        task_enqueued.disconnect(raises, sender=object)
    assert not has_receivers(task_enqueued)
