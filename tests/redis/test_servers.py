"""The way to a server: pools, scripts, errors, forks, clusters and Sentinels."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from backroom.cache.backends.redis import RedisCacheOptions
from backroom.options import OptionsError, parse, problems_of, problems_of_settings
from backroom.redis import (
    Address,
    RedisOptions,
    RedisUnavailable,
    Script,
    Server,
    key,
    server_in_loop,
    server_of,
    slot_of,
)
from backroom.redis.addresses import maker_of, problem_of
from backroom.redis.facts import facts_of
from backroom.redis.links import Pool
from backroom.redis.loops import Line
from backroom.sessions.rules import SessionOptions
from tests.redis.servers import Move, Proxy, Sentinel, TcpRedis, Valkey, cluster, running
from tests.services.project import wait_until


def connections_of(server: TcpRedis) -> int:
    """Return how many connections of ours the server has."""
    return str(server.ask("CLIENT", "LIST")).count("name=backroom-")


def test_a_command_goes_there_and_its_reply_comes_back(server: Server) -> None:
    assert server.call("SET", "a", b"\x00\xff") == b"OK"
    assert server.call("GET", "a") == b"\x00\xff"
    assert server.call("GET", "b") is None
    assert server.call_each([("INCR", "n"), ("NO", "SUCH"), ("INCR", "n")])[::2] == [1, 2]


def test_what_the_server_says_of_a_command_leaves_its_connection_open(server: Server, either: TcpRedis) -> None:
    with pytest.raises(ResponseError):
        server.call("NO", "SUCH")
    before = connections_of(either)
    with pytest.raises(ResponseError):
        server.call("NO", "SUCH")
    assert server.call("PING") == b"PONG"
    assert connections_of(either) == before


def test_threads_share_as_many_connections_as_work_at_once(own_server: Callable[..., TcpRedis]) -> None:
    own = own_server()
    server = server_of(Address(url=own.url, max_connections=3, timeout=20.0))
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(lambda number: server.call("ECHO", str(number)), range(200)))[-1] == b"199"
    assert 1 <= connections_of(own) <= 3


def test_who_finds_no_connection_free_is_told(either: TcpRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    server: Any = server_of(Address(url=either.url, max_connections=1, timeout=20.0))
    with server._pool.link() as link:
        assert link.ask(("PING",)) == b"PONG"
        monkeypatch.setattr(server._pool, "_patience", 0.1)
        with pytest.raises(RedisUnavailable, match="All 1 connections to Redis"):
            server.call("PING")
    assert server.call("PING") == b"PONG"


def test_who_is_interrupted_takes_no_connection_away(either: TcpRedis) -> None:
    make, interrupted = maker_of(Address(url=either.url)), [True, True]

    def interrupt() -> Any:
        if interrupted:
            interrupted.pop()
            raise KeyboardInterrupt
        return make()

    pool = Pool(interrupt, "a server", limit=2, patience=0.05)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pool.ask(("PING",))
    with pool.link() as first, pool.link() as second:
        assert first.ask(("PING",)) == second.ask(("PING",)) == b"PONG"
        with pytest.raises(RedisUnavailable, match="are in use"):
            pool.ask(("PING",))
    assert pool.ask(("PING",)) == b"PONG"


@pytest.mark.parametrize("how", ["one", "several", "loop"])
def test_who_is_told_of_a_replica_asks_anew_where_the_primary_is(
    own_server: Callable[..., TcpRedis], own_folder: Path, how: str
) -> None:
    old, new = own_server(), own_server()
    link = own_folder / "link"
    link.symlink_to(old.socket)
    address = Address(url=f"unix://{link}")
    server = server_of(address)

    async def story(set_: Callable[[], Any]) -> None:
        assert await set_() == b"OK"
        link.unlink()
        link.symlink_to(new.socket)
        old.ask("REPLICAOF", "127.0.0.1", str(new.port))
        with pytest.raises(RedisUnavailable, match=r"is a read-only replica|has lost its primary"):
            await set_()
        assert await set_() == b"OK"

    async def set_() -> Any:
        if how == "loop":
            return await server_in_loop(address).call("SET", "a", "1")
        if how == "one":
            return server.call("SET", "a", "1")
        [reply] = server.call_each([("SET", "a", "1")])
        if isinstance(reply, Exception):
            raise reply
        return reply

    asyncio.run(story(set_))


def test_the_same_address_is_the_same_pool_and_a_fork_has_its_own(server: Server, either: TcpRedis) -> None:
    assert server_of(Address(url=either.url)) is server
    server.call("SET", "from", "parent")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # A connection of the parent's would give the replies of one to the other.
            for _ in range(50):
                server.call("INCR", "forked")
            os.write(writer, server.call("GET", "from"))
        finally:
            os._exit(0)
    assert [server.call("ECHO", str(number)) for number in range(50)][-1] == b"49"
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"parent"
    assert server.call("GET", "forked") == b"50"
    os.close(reader)
    os.close(writer)


def test_a_restart_of_the_server_is_not_noticed_by_who_was_idle(own_server: Callable[..., TcpRedis]) -> None:
    own = own_server(durable=True)
    server = server_of(Address(url=own.url))
    script = Script("#!lua\nreturn redis.call('INCR', KEYS[1])")
    assert script.run(server, ["{a}n"], []) == 1
    own.restart()
    # Neither the closed connection nor the forgotten script is the caller's affair.
    assert script.run(server, ["{a}n"], []) == 2
    own.ask("SCRIPT", "FLUSH")
    assert script.run_each(server, [(["{a}n"], []), (["{a}n"], [])]) == [3, 4]


def test_a_thread_that_is_interrupted_leaves_no_reply_to_the_next(server: Server, either: TcpRedis) -> None:
    import ctypes

    class Interrupted(BaseException):
        pass

    begun = threading.Event()

    def wait() -> None:
        begun.set()
        server.call("BLPOP", "nothing", "0.5")

    def work() -> None:
        try:
            wait()
        except Interrupted:
            return

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(60)
    wait_until(lambda: "cmd=blpop" in str(either.ask("CLIENT", "LIST")))
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupted))
    thread.join(10)
    assert [server.call("ECHO", str(number)) for number in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("url", ["redis://user:s3cret@127.0.0.1:1/0", "redis://:s3cret@127.0.0.1:1/0?password=s3cret"])
def test_an_error_names_the_server_and_no_password(url: str) -> None:
    address = Address(url=url)
    with pytest.raises(RedisUnavailable) as caught:
        server_of(address).call("PING")
    assert "redis://127.0.0.1:1/0 cannot be reached" in str(caught.value)
    assert "Check that the server runs" in str(caught.value)
    assert "s3cret" not in f"{caught.value!r} {address} {address!r} {server_of(address).name}"


def test_wrong_credentials_are_told(own_server: Callable[..., TcpRedis]) -> None:
    own = own_server()
    own.ask("ACL", "SETUSER", "clerk", "on", ">s3cret", "~*", "+ping", "+client")
    with pytest.raises(RedisUnavailable, match="does not accept the credentials"):
        server_of(Address(url=own.tcp_url.replace("//", "//clerk:wrong@"))).call("PING")
    clerk = server_of(Address(url=own.tcp_url.replace("//", "//clerk:s3cret@")))
    assert clerk.call("PING") == b"PONG"
    with pytest.raises(RedisUnavailable, match="does not permit this user the command"):
        clerk.call("GET", "a")


@pytest.mark.parametrize("how", ["threads", "loop"])
def test_a_database_that_the_server_has_not_is_told(tcp_redis: TcpRedis, how: str) -> None:
    address = Address(url=f"redis://127.0.0.1:{tcp_redis.port}/99")

    async def in_loop() -> Any:
        return await server_in_loop(address).call("PING")

    with pytest.raises(RedisUnavailable, match=r"/99 has no database of that number\. Name one below"):
        asyncio.run(in_loop()) if how == "loop" else server_of(address).call("PING")


def test_an_error_in_a_loop_that_is_the_callers_fault_is_not_its_own_cause(
    tcp_redis: TcpRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_asked: Any) -> None:
        raise ResponseError("wrong")

    monkeypatch.setattr(Line, "ask_each", refused)

    async def in_loop() -> Any:
        return await server_in_loop(Address(url=tcp_redis.tcp_url)).call("PING")

    with pytest.raises(ResponseError) as caught:
        asyncio.run(in_loop())
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("how", ["threads", "loop"])
def test_who_asks_a_server_without_tls_for_tls_is_told_what_that_may_be(tcp_redis: TcpRedis, how: str) -> None:
    address = Address(url=f"rediss://127.0.0.1:{tcp_redis.port}/0", connect_timeout=0.2)

    async def in_loop() -> Any:
        return await server_in_loop(address).call("PING")

    with pytest.raises(RedisUnavailable, match=r"does not answer in time\. .* If it speaks no TLS, write redis://"):
        asyncio.run(in_loop()) if how == "loop" else server_of(address).call("PING")


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(tcp_redis: TcpRedis) -> None:
    proxy = Proxy(tcp_redis.port)
    server = server_of(Address(url=proxy.url, timeout=0.2, connect_timeout=0.5))

    def answers() -> bool:
        try:
            return bool(server.call("PING") == b"PONG")
        except RedisUnavailable:
            # The timeout is short, and the machine may be busy.
            return False

    wait_until(answers, what="an answer")
    proxy.swallow()
    with pytest.raises(RedisUnavailable, match="does not answer in time") as caught:
        server.call("PING")
    assert caught.value.may_have_happened
    proxy.heal()
    wait_until(answers, what="an answer again")
    proxy.close()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "No Redis server is named"),
        ({"url": "localhost:6379"}, "begins with 'localhost'"),
        ({"url": "redis://localhost:port"}, "cannot be read"),
        ({"url": "redis://a", "cluster": True, "sentinels": ["b:1"]}, "not both"),
        ({"url": "unix:///a", "cluster": True}, "by host and port"),
        ({"url": "redis://tasks", "sentinels": ["b"]}, "Sentinel 'b' is no address"),
        ({"url": "redis://a/?no_such_option=1"}, "not known: .*'no_such_option'"),
        ({"url": "rediss://a/?ssl_ca_certs=/no/such/file"}, "names '/no/such/file', which is not there"),
        ({"url": "rediss://a/?ssl_cert_reqs=perhaps"}, "cannot be read: .*perhaps"),
    ],
)
def test_an_address_that_can_be_none_is_refused_before_anything_is_connected(
    options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(OptionsError, match=problem):
        server_of(parse(RedisOptions, options).address)


def test_the_setting_names_the_server_of_those_that_name_none(settings: Any) -> None:
    settings.BACKROOM = {"REDIS_URL": "redis://everywhere/1"}
    assert parse(RedisOptions, {}).address.url == "redis://everywhere/1"
    assert parse(RedisOptions, {"url": "redis://here"}).address.url == "redis://here"


def test_keys_with_one_tag_are_in_one_slot() -> None:
    assert key("app", "tasks", "ready", "mail") == "app:{tasks}:ready:mail"
    assert slot_of(key("app", "tasks", "a")) == slot_of(key("other", "tasks", "b"))
    assert slot_of(key("app", "ta}sks", "a")) == slot_of(key("app", "ta}sks", "b"))
    # Of a tag without a name the server would take no notice.
    assert slot_of(key("a{}pp", "tasks", "a")) == slot_of(key("app", "tasks", "b"))
    assert slot_of("123456789") == 12_739


def test_a_server_tells_what_it_is(either: TcpRedis, server: Server) -> None:
    facts = facts_of(server)
    assert facts.product.startswith("Valkey 9" if isinstance(either, Valkey) else "Redis 7")
    assert (facts.is_too_old, facts.evicts, facts.is_persistent, facts.role) == (False, False, False, "master")


def test_a_command_follows_its_key_through_a_cluster(own_folder: Path) -> None:
    with cluster(own_folder) as nodes:
        server = server_of(Address(url=nodes[0].tcp_url, cluster=True))
        names = [f"{{{number}}}n" for number in range(30)]
        assert {server.call("INCR", name) for name in names} == {1}
        assert server.call_each([("INCR", name) for name in names]) == [2] * 30
        assert sum(int(node.ask("DBSIZE")) for node in nodes) == 30
        assert all(int(node.ask("DBSIZE")) for node in nodes)
        assert facts_of(server).role == "master"

        # A slot moves: while it does its key is asked for at its new place, and afterwards it is known to be there.
        move = Move(nodes, names[0])
        move.go_on(1)
        assert server.call("INCR", names[0]) == 3
        move.end()
        assert server.call("INCR", names[0]) == 4
        assert server.call_each([("INCR", name) for name in names])[0] == 5


def test_who_takes_one_for_the_other_is_told(own_folder: Path, only: TcpRedis) -> None:
    with pytest.raises(RedisUnavailable, match=r"is no node of a cluster\. Take the option 'cluster' away"):
        server_of(Address(url=only.tcp_url, cluster=True)).call("GET", "a")
    with cluster(own_folder) as nodes:
        server = server_of(Address(url=nodes[0].tcp_url))
        assert slot_of("a") > 2 * 5_461
        with pytest.raises(RedisUnavailable, match=r"is a node of a cluster\. Say so with the option 'cluster'"):
            server.call("GET", "a")


def test_sentinels_lead_to_the_new_primary(own_folder: Path) -> None:
    own_folder.mkdir()
    primary = TcpRedis(own_folder / "primary", repl_diskless_sync_delay="0")
    replica = TcpRedis(own_folder / "replica", replicaof=f"127.0.0.1 {primary.port}")
    watcher = Sentinel(own_folder / "sentinel", primary)
    with running(primary, replica, watcher):
        wait_until(lambda: "master_link_status:up" in replica.info("replication"), what="the replica to follow")
        wait_until(lambda: "slaves=1" in watcher.info("sentinel"), what="the Sentinel to know the replica")
        address = Address(url="redis://tasks/0", sentinels=(f"127.0.0.1:{watcher.port}",), timeout=1.0)
        server = server_of(address)
        server.call("SET", "a", "1")
        wait_until(lambda: replica.ask("GET", "a") == "1")
        with pytest.raises(RedisUnavailable, match="is a read-only replica"):
            server_of(Address(url=replica.tcp_url)).call("SET", "a", "2")
        primary.kill()

        def works() -> bool:
            try:
                return bool(server.call("SET", "a", "3"))
            except RedisUnavailable:
                return False

        wait_until(works, what="the other one to become the primary")
        assert replica.ask("GET", "a") == "3"


def test_a_service_that_no_sentinel_knows_is_told(own_folder: Path) -> None:
    with pytest.raises(RedisUnavailable, match=r"redis://tasks/0 \(by Sentinel\) cannot be reached"):
        server_of(Address(url="redis://tasks/0", sentinels=("127.0.0.1:1",))).call("PING")


def test_who_may_not_ask_for_settings_is_told_the_rest(own_server: Callable[..., TcpRedis]) -> None:
    own = own_server()
    own.ask("ACL", "SETUSER", "clerk", "on", ">s3cret", "~*", "+@all", "-config")
    facts = facts_of(server_of(Address(url=own.tcp_url.replace("//", "//clerk:s3cret@"))))
    assert facts.role == "master"


def test_a_setting_of_the_wrong_type_shows_no_password(settings: Any) -> None:
    url: Any = b"redis://:s3cret@h/0"
    for work in (
        lambda: problems_of(RedisOptions, {"url": url, "sentinel_password": url}),
        lambda: problems_of(RedisCacheOptions, {"SENTINEL_PASSWORD": url}),
        lambda: problems_of(SessionOptions, {"REDIS": str(url)}),
        problems_of_settings,
    ):
        settings.BACKROOM = {"REDIS_URL": url}
        said = work()
        assert "Use a " in said[0]
        assert "s3cret" not in str(said)
    settings.BACKROOM = str(url)
    assert problems_of_settings() == ["BACKROOM is of type str. Use a dict."]


def test_options_show_no_password() -> None:
    shown = repr(RedisOptions(url="redis://u:s3cret@h/0", sentinel_password="s3cret"))
    assert "prefix" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize("password", ["s3c/ret", "s3c#ret", "s3c?ret", "12/34", "a?s3c=ret"])
def test_a_password_that_is_not_quoted_is_not_shown(password: str) -> None:
    address = Address(url=f"redis://u:{password}@127.0.0.1:1/0")
    said = f"{address} {problem_of(address)}"
    assert not [part for part in ("s3c", "12/", "34@") if part in said]
