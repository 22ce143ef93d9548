"""The tokens that wake workers: one worker for each, none for who has no room, and none lost to a server's absence."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backroom.redis import Address, Server, server_of
from backroom.tasks.stores.redis import RedisStore
from backroom.tasks.transports import bells
from backroom.tasks.transports.bells import BellListener
from backroom.tasks.transports.wakeups import is_heard
from backroom.testing.stores.case import new_record, released, request
from tests.redis.servers import Proxy, TcpRedis
from tests.services.project import wait_until


@pytest.fixture
def hang() -> Iterator[Callable[..., BellListener]]:
    """Return a function that gives an open listener of a worker, which has claimed from these queues."""
    listeners: list[BellListener] = []

    def hang(server: Server, *queues: str) -> BellListener:
        store = RedisStore(server, "contract")
        store.claim(request(queues=queues))
        listeners.append(BellListener(server, store.bells))
        listeners[-1].open()
        return listeners[-1]

    yield hang
    for each in listeners:
        each.close()


@pytest.fixture
def store(server: Server) -> RedisStore:
    return RedisStore(server, "contract")


def is_ringing(listener: BellListener, seconds: float = 5.0) -> bool:
    descriptor = listener.fileno()
    if descriptor is None:
        return False
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(seconds * 1000)) and listener.hear()


def waits(either: TcpRedis, count: int) -> None:
    """Wait until so many listeners wait at the server."""
    wait_until(
        lambda: f"blocked_clients:{count}\n" in either.info("clients").replace("\r", ""), what=f"{count} to wait"
    )


def test_what_was_enqueued_before_anybody_waited_is_heard(store: RedisStore, hang: Any) -> None:
    listener = hang(store.server)
    store.insert([new_record()])
    # It asks for a token only now.
    assert is_ringing(listener)
    assert not listener.hear()


def test_one_enqueue_wakes_one_and_the_next_the_next(store: RedisStore, hang: Any, either: TcpRedis) -> None:
    listeners = [hang(store.server) for _ in range(3)]
    for each in listeners:
        each.fileno()
    waits(either, 3)
    for woken in (1, 2):
        store.insert([new_record()])
        waits(either, 3 - woken)
    wait_until(lambda: any(each.hear() for each in listeners), what="the first ring")
    assert either.ask("LLEN", "backroom:{contract}:bell:") == 0


def test_many_wake_as_many_as_there_are(store: RedisStore, hang: Any, either: TcpRedis) -> None:
    listeners = [hang(store.server) for _ in range(3)]
    for each in listeners:
        each.fileno()
    waits(either, 3)
    store.insert([new_record() for _ in range(100)])
    assert all(map(is_ringing, listeners))


def test_a_worker_of_other_queues_sleeps_on(store: RedisStore, hang: Any, either: TcpRedis) -> None:
    mail, everything = hang(store.server, "mail", "print"), hang(store.server)
    mail.fileno()
    everything.fileno()
    waits(either, 2)
    store.insert([new_record(queue_name="other")])
    assert is_ringing(everything)
    store.insert([new_record(queue_name="print")])
    assert is_ringing(mail)


def test_who_has_no_room_takes_no_token(store: RedisStore, hang: Any, either: TcpRedis) -> None:
    busy, idle = hang(store.server), hang(store.server)
    idle.fileno()
    waits(either, 1)
    store.insert([new_record()])
    assert not busy.hear()
    assert is_ringing(idle)


def test_what_is_given_back_rings_and_what_fails_does_not(store: RedisStore, hang: Any) -> None:
    listener = hang(store.server)
    store.insert([new_record()])
    assert is_ringing(listener)
    [claim] = store.claim(request())
    store.apply([released(claim)])
    assert is_ringing(listener)
    # A transition that came too late has made nothing ready.
    store.apply([released(claim)])
    assert not is_ringing(listener, 0.1)


def test_tokens_that_nobody_takes_stay_few(store: RedisStore, either: TcpRedis) -> None:
    for _ in range(5):
        store.insert([new_record(queue_name="mail") for _ in range(100)])
        store.insert([new_record(queue_name="mail")])
    assert [either.ask("LLEN", f"backroom:{{contract}}:bell:{queue}") for queue in ("", "mail")] == [16, 16]


def test_it_outlives_its_server(
    hang: Any, own_server: Callable[..., TcpRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "PATIENCE", 0.0)
    own = own_server(durable=True)
    server = server_of(Address(url=own.url))
    listener = hang(server)
    assert listener.fileno() is not None
    own.kill()
    wait_until(lambda: not listener.hear() and listener.fileno() is None, what="it to notice")
    own.start()
    RedisStore(server, "contract").insert([new_record()])
    assert is_heard(listener, within=10)


def test_a_server_that_has_gone_silent_is_given_up(hang: Any, only: TcpRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "WAIT", 1)
    monkeypatch.setattr(bells, "GRACE", 0.2)
    monkeypatch.setattr(bells, "PATIENCE", 0.0)
    proxy = Proxy(only.port)
    server = server_of(Address(url=proxy.url, timeout=0.5, connect_timeout=0.5))
    listener = hang(server)
    first = listener.fileno()
    proxy.swallow()
    wait_until(lambda: listener.fileno() is None, what="the silence to be noticed")
    proxy.heal()
    wait_until(lambda: listener.fileno() is not None, what="it to be back")
    RedisStore(server, "contract").insert([new_record()])
    assert is_heard(listener, within=10)
    assert first is not None
    proxy.close()


def test_an_answer_that_nothing_came_is_no_ring(hang: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "WAIT", 0.05)
    listener = hang(server)
    for _ in range(3):
        assert not is_ringing(listener)
        assert listener.fileno() is not None


def test_opening_without_a_server_fails_quietly() -> None:
    listener = BellListener(server_of(Address(url="redis://127.0.0.1:1/0")), lambda: ["a"])
    listener.open()
    assert listener.fileno() is None
    assert not listener.hear()
    listener.close()


def test_the_bell_of_a_queue_that_nobody_uses_any_more_goes(store: RedisStore, either: TcpRedis) -> None:
    store.insert([new_record(queue_name="customer-7")])
    assert all(0 < int(either.ask("TTL", bell)) <= 86_400 for bell in either.ask("KEYS", "*:bell:*"))
    assert either.ask("KEYS", "*:bell:*")
