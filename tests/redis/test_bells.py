"""The tokens that wake workers: one worker for each, none for who has no room, and none lost to a server's absence."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backroom.clock import SystemClock
from backroom.redis import Address, Server, server_of
from backroom.tasks.stores.base import Request
from backroom.tasks.stores.redis import RedisStore
from backroom.tasks.transports import bells
from backroom.tasks.transports.bells import BellListener
from backroom.tasks.transports.wakeups import is_heard
from backroom.testing.stores.case import NOW, deferred, new_record, released, request, succeeded
from tests.redis.servers import Proxy, TcpRedis
from tests.services.project import wait_until


@pytest.fixture
def hang() -> Iterator[Callable[..., BellListener]]:
    """Return a function that gives an open listener of a worker, which has claimed from these queues."""
    listeners: list[BellListener] = []

    def hang(server: Server, *queues: str) -> BellListener:
        store = RedisStore(server, "contract")
        store.claim(request(queues=queues))
        listeners.append(BellListener(store, SystemClock()))
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


def asked(limit: int, **values: Any) -> Request:
    """Return what a worker asks for now."""
    return request(limit, now=SystemClock().now(), lease=30, **values)


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
    nowhere = RedisStore(server_of(Address(url="redis://127.0.0.1:1/0")), "contract")
    listener = BellListener(nowhere, SystemClock())
    listener.open()
    assert listener.fileno() is None
    assert not listener.hear()
    listener.close()


def test_the_bell_of_a_queue_goes_with_its_last_task(store: RedisStore, either: TcpRedis) -> None:
    store.insert([new_record(queue_name="customer-7"), new_record(queue_name="customer-8")])
    assert len(either.ask("KEYS", "*:bell:customer-*")) == 2
    [claim] = store.claim(request(queues=("customer-7",)))
    store.apply([succeeded(claim)._replace(prune_at=NOW)])
    store.prune(NOW, 10)
    assert either.ask("KEYS", "*:bell:customer-*") == ["backroom:{contract}:bell:customer-8"]
    assert either.ask("HKEYS", "backroom:{contract}:counts") == ["rcustomer-8"]


class TestErrands:
    """A request that is sent ahead, and comes back with claims."""

    @pytest.fixture
    def send(self, hang: Any) -> Callable[..., BellListener]:
        """Return a function that gives a listener whose request is on its way."""

        def send(server: Server, limit: int = 4, **values: Any) -> BellListener:
            listener: BellListener = hang(server, *values.get("queues", ()))
            assert listener.takes_requests
            listener.send(asked(limit, **values))
            assert listener.asked == 0
            listener.fileno()
            assert listener.asked == limit
            return listener

        return send

    def test_an_enqueue_brings_the_claims(self, store: RedisStore, send: Any, either: TcpRedis) -> None:
        listener = send(store.server)
        waits(either, 1)
        before = SystemClock().now()
        store.insert([new_record(priority=priority) for priority in (0, 5, 0)])
        wait_until(listener.hear, what="the request to come back")
        claims = listener.brought()
        assert [claim.priority for claim in claims] == [5, 0, 0]
        assert store.get([claim.id for claim in claims]) == sorted(claims)
        assert {(claim.state, claim.worker_id, claim.attempts, claim.fence) for claim in claims} == {
            ("running", "worker-1", 1, 1)
        }
        # When they were claimed, and not when that was asked for.
        assert all(before - 50_000 <= claim.started_at <= SystemClock().now() + 50_000 for claim in claims)
        assert {claim.lease_until - claim.started_at for claim in claims} == {30_000_000}
        assert listener.asked == 0
        assert listener.brought() is None

    def test_no_more_is_brought_than_was_asked_for(self, store: RedisStore, send: Any) -> None:
        store.insert([new_record() for _ in range(5)])
        listener = send(store.server, 2)
        wait_until(listener.hear, what="the request to come back")
        assert len(listener.brought()) == 2
        # What is left is rung for.
        assert is_ringing(listener)

    def test_one_that_waited_in_vain_comes_back_and_finds_what_nobody_rang_for(
        self, store: RedisStore, send: Any, either: TcpRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bells, "WAIT", 0.05)
        listener = send(store.server)
        wait_until(listener.hear, what="the request to come back")
        assert listener.brought() == []
        store.insert([new_record()])
        either.ask("DEL", "backroom:{contract}:bell:")
        listener.send(asked(4))
        listener.fileno()
        wait_until(listener.hear, what="the request to come back")
        assert len(listener.brought()) == 1

    def test_what_becomes_due_meanwhile_is_brought_when_it_is_due(
        self, store: RedisStore, send: Any, either: TcpRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bells, "WAIT", 60.0)
        listener = send(store.server)
        waits(either, 1)
        now = SystemClock().now()
        record = new_record(state="deferred", run_after=now + 300_000, due_at=now + 300_000)
        store.insert([record])
        # There is nothing yet, but now it is known when there will be.
        wait_until(listener.hear, what="the request to come back")
        assert listener.brought() == []
        listener.send(asked(4))
        listener.fileno()
        wait_until(listener.hear, what="the request to come back")
        [claim] = listener.brought()
        assert claim.id == record.id
        assert claim.started_at >= record.due_at

    def test_it_is_called_back_with_what_it_has_and_leaves_nothing_behind(
        self, store: RedisStore, send: Any, either: TcpRedis
    ) -> None:
        listener = send(store.server)
        waits(either, 1)
        assert listener.call_back() == []
        assert listener.asked == 0
        listener.send(asked(4))
        listener.fileno()
        waits(either, 1)
        store.insert([new_record()])
        waits(either, 0)
        assert len(listener.call_back()) == 1
        assert either.ask("KEYS", "*bell@*") == []
        assert listener.call_back() == []

    def test_a_server_that_has_forgotten_the_script_rings_all_the_same(
        self, store: RedisStore, send: Any, either: TcpRedis
    ) -> None:
        listener = send(store.server)
        waits(either, 1)
        either.ask("SCRIPT", "FLUSH")
        store.insert([new_record()])
        wait_until(listener.hear, what="the ring")
        # Whoever hears it claims by himself.
        assert listener.brought() is None
        assert len(store.claim(request())) == 1

    def test_one_that_is_lost_is_said_to_be_missed_once_the_server_must_have_come_to_it(
        self, send: Any, only: TcpRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bells, "WAIT", 0.5)
        monkeypatch.setattr(bells, "GRACE", 0.2)
        proxy = Proxy(only.port)
        server = server_of(Address(url=proxy.url, timeout=0.5, connect_timeout=0.5))
        listener = send(server)
        waits(only, 1)
        proxy.swallow()
        RedisStore(server_of(Address(url=only.url)), "contract").insert([new_record()])
        wait_until(lambda: not listener.hear() and listener.fileno() is None, what="the silence to be noticed")
        assert listener.asked == 0
        assert listener.brought() is None
        wait_until(listener.has_missed, what="the time after which it is known")
        assert not listener.has_missed()
        proxy.close()
        # And indeed it has claimed.
        assert only.ask("ZCARD", "backroom:{contract}:leases") == 1

    def test_who_may_not_ask_for_the_time_is_only_rung_for(self, hang: Any, only: TcpRedis) -> None:
        only.ask("ACL", "SETUSER", "timeless", "on", "nopass", "~*", "&*", "+@all", "-time")
        server = server_of(Address(url=only.url.replace("://", "://timeless:any@")))
        listener = hang(server)
        listener.send(asked(4))
        assert listener.fileno() is not None
        assert listener.asked == 0
        assert not listener.takes_requests
        RedisStore(server, "contract").insert([new_record()])
        assert is_heard(listener, within=10)
        assert listener.brought() is None

    def test_several_shards_are_only_rung_for(self, server: Server) -> None:
        listener = BellListener(RedisStore(server, "contract", shards=2), SystemClock())
        listener.open()
        assert not listener.takes_requests
        listener.close()


def test_what_is_due_first_rings_for_whoever_waits_until_then(store: RedisStore, hang: Any) -> None:
    listener = hang(store.server)
    store.insert([new_record(**deferred(3_600))])
    assert is_ringing(listener)
    # It comes later, so nobody has to wake sooner.
    store.insert([new_record(**deferred(7_200))])
    assert not is_ringing(listener, 0.1)


def test_what_became_due_and_is_another_ones_rings_for_that_one(store: RedisStore, hang: Any) -> None:
    listener = hang(store.server, "mail")
    store.insert([new_record(queue_name="mail", **deferred(10))])
    assert is_ringing(listener)
    assert store.claim(request(queues=("print",), now=NOW + 20_000_000)) == []
    assert is_ringing(listener)
