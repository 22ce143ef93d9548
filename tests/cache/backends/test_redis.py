"""What RedisCache has beside the contract: its share of the server, absent servers, loops, replicas, Sentinel."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache as DjangosCache
from django.http import HttpResponse

from backroom.cache import ainvalidate, cache_page, depend_on, fetch, invalidate
from backroom.cache.absence import absence_of
from backroom.cache.backends.redis import RedisCache
from backroom.cache.backends.redisverbs import ROOT
from backroom.cache.generations import InvalidationFailed
from backroom.redis import RedisUnavailable, loops
from tests.cache.test_functions import waiting_for
from tests.redis.servers import Proxy, Sentinel, TcpRedis, running

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def server(services_folder: Path) -> Any:
    tcp = TcpRedis(services_folder / "cache-redis")
    with running(tcp):
        yield tcp


@pytest.fixture
def empty(server: TcpRedis) -> TcpRedis:
    server.ask("FLUSHALL")
    server.ask("CONFIG", "RESETSTAT")
    return server


@pytest.fixture
def cache(empty: TcpRedis) -> RedisCache:
    return RedisCache(empty.tcp_url, {})


def test_clear_leaves_everything_else_on_the_server(cache, empty):
    odd = RedisCache(empty.tcp_url, {"KEY_PREFIX": "a*[b]?"})
    djangos = DjangosCache(empty.tcp_url, {})
    for each in (cache, odd, djangos, RedisCache(empty.tcp_url, {"KEY_PREFIX": "axbc"})):
        each.set("key", 1)
    empty.ask("SET", "backroom:tasks", "1")
    odd.clear()
    assert sorted(empty.ask("KEYS", "*")) == [
        ":1:key",
        "backroom:cache::1:key",
        "backroom:cache:axbc:1:key",
        "backroom:tasks",
    ]
    cache.clear()
    assert sorted(empty.ask("KEYS", "*")) == [":1:key", "backroom:cache:axbc:1:key", "backroom:tasks"]


def test_many_keys_are_one_command_or_one_round_trip(cache, empty):
    values = {f"key-{number}": number for number in range(500)}
    cache.set_many(values, 60)
    assert cache.get_many(values) == values
    cache.delete_many(values)
    calls = empty.calls()
    assert (calls["set"], calls["mget"], calls["unlink"]) == (500, 1, 1)
    assert "pexpire" not in calls


def test_get_or_set_is_a_look_and_one_write(cache, empty):
    assert cache.get_or_set("key", "made") == "made"
    calls = empty.calls()
    assert (calls["get"], calls["set"]) == (1, 1)
    assert RedisCache(empty.tcp_url, {})._run("add", cache._add_or_get("key", "later", 60, None), None) == "made"


def test_jitter_shortens_lives_but_no_lock(empty, monkeypatch):
    cache = RedisCache(empty.tcp_url, {"OPTIONS": {"JITTER": 0.5}})
    monkeypatch.setattr("backroom.cache.lifetimes.random.random", lambda: 0.9)
    cache.set("set", 1, 100)
    cache.set_many({"many": 1}, 100)
    lock = cache.lock("lock", timeout=100)
    assert lock.acquire()
    assert lock.extend(100)
    cache.get_or_set("stored", 1, 100)
    cache.set("touched", 1, 1)
    cache.touch("touched", 100)
    lives = {key: round(cache.ttl(key) or 0) for key in ("set", "many", "lock", "stored", "touched")}
    assert lives == {"set": 55, "many": 55, "lock": 100, "stored": 100, "touched": 100}


def test_a_large_value_is_packed(empty):
    cache = RedisCache(empty.tcp_url, {"OPTIONS": {"COMPRESS_FROM": 1000}})
    cache.set("key", "text " * 10_000)
    assert empty.ask("STRLEN", f"{ROOT}:1:key") < 1000
    assert cache.get("key") == "text " * 10_000


def test_what_another_wrote_there_is_a_miss_and_no_code(cache, empty, caplog):
    cache.set("key", {1, 2})
    name = f"{ROOT}:1:key"
    subprocess.run(
        ["redis-cli", "-s", str(empty.socket), "SETRANGE", name, "10", "tampered"], check=True, capture_output=True
    )
    assert cache.get("key", "missing") == "missing"
    assert cache.get_many(["key"]) == {}
    assert "cache_unreadable" in caplog.text


@pytest.mark.parametrize("raw", ["12abc", "1 2", "-", "9" * 5_000])
def test_what_begins_like_a_number_and_is_none_is_a_miss(cache, empty, raw):
    empty.ask("SET", f"{ROOT}:1:key", raw)
    assert cache.get("key", "missing") == "missing"
    assert cache.get_many(["key"]) == {}
    with pytest.raises(ValueError, match="not found"):
        cache.incr("key")


def test_an_invalidation_that_the_server_did_not_hear_of_is_not_taken_for_done(settings):
    settings.CACHES = {
        "default": {
            "BACKEND": "backroom.cache.backends.redis.RedisCache",
            "LOCATION": NOWHERE,
            "OPTIONS": {"IGNORE_EXCEPTIONS": True},
        }
    }
    with pytest.raises(InvalidationFailed):
        invalidate("prices")


def test_an_absence_ends_with_the_process_that_found_it():
    absence = absence_of("a server that is not there")
    absence.begins("get", OSError(), lasting=3600)
    with absence._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if not absence.lasts() and absence._lock.acquire(timeout=1) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert absence.lasts()


def test_an_absent_server_raises_and_names_itself_without_the_password():
    cache = RedisCache("redis://user:secret@127.0.0.1:1/0", {})
    with pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1:1/0 cannot be reached") as raised:
        cache.get("key")
    assert "secret" not in str(raised.value)
    with pytest.raises(RedisUnavailable, match="cannot be reached"):
        asyncio.run(cache.aget("key"))


def tolerant(location: str, **options: Any) -> RedisCache:
    return RedisCache(location, {"OPTIONS": {"IGNORE_EXCEPTIONS": True, **options}})


def test_an_absent_server_can_be_a_miss(caplog):
    cache = tolerant(NOWHERE, RETRY_AFTER=0)
    before = cache.failures()
    cache.set("key", 1)
    cache.clear()
    cache.delete_many(["key"])
    assert cache.get("key", "missing") == "missing"
    assert cache.get_many(["key"]) == {}
    assert cache.set_many({"key": 1}) == ["key"]
    assert cache.get_or_set("key", lambda: "made") == "made"
    assert cache.add("key", 1) is cache.has_key("key") is cache.touch("key") is cache.delete("key") is False
    assert cache.ttl("key") == 0
    assert cache.lock("key", blocking_timeout=0).acquire() is False
    with pytest.raises(ValueError, match="not found"):
        cache.incr("key")

    async def use() -> list[Any]:
        return [await cache.aget("key", "missing"), await cache.aget_or_set("key", lambda: "made")]

    assert asyncio.run(use()) == ["missing", "made"]
    assert cache.failures() - before == 18
    assert caplog.text.count("action=cache_unavailable") <= 1


def test_nobody_waits_for_a_lock_on_an_absent_server(settings, monkeypatch, caplog):
    path, options = "backroom.cache.backends.redis.RedisCache", {"IGNORE_EXCEPTIONS": True}
    settings.CACHES = {"default": {"BACKEND": path, "LOCATION": NOWHERE, "OPTIONS": options}}
    monkeypatch.setattr("backroom.cache.steps.time.sleep", lambda _seconds: pytest.fail("There is nobody."))
    assert [fetch("k", partial(int, number)) for number in range(3)] == [0, 1, 2]
    assert caplog.text.count("action=cache_no_lock cache=default key=") == 1


def test_a_server_that_hangs_is_not_asked_by_everybody(empty):
    proxy = Proxy(empty.port)
    try:
        cache = tolerant(proxy.url, SOCKET_TIMEOUT=0.2, RETRY_AFTER=3600)
        cache.set("key", 1)
        proxy.swallow()
        assert cache.get("key", "missing") == "missing"
        proxy.heal()
        empty.ask("CONFIG", "RESETSTAT")
        assert [cache.get("key", "missing") for _ in range(50)] == ["missing"] * 50
        assert "get" not in empty.calls()
        assert cache.failures() == 51
    finally:
        proxy.close()


def test_two_hundred_at_once_take_one_connection_and_no_thread(cache, empty):
    cache.set("key", "value")

    async def read() -> tuple[set[str], int, set[threading.Thread]]:
        await cache.aget("key")
        before = int(empty.ask("INFO", "stats")["total_connections_received"])
        # Others' threads may end meanwhile.
        threads = set(threading.enumerate())
        found = await asyncio.gather(*(cache.aget("key") for _ in range(200)))
        after = int(empty.ask("INFO", "stats")["total_connections_received"])
        # One is the second look itself.
        return set(found), after - before - 1, set(threading.enumerate()) - threads

    assert asyncio.run(read()) == ({"value"}, 0, set())


def test_connections_end_with_their_loop(cache, empty):
    async def use() -> None:
        await cache.aset("key", 1)
        assert await cache.aget("key") == 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            asyncio.run(use())
        gc.collect()
    assert not [loop for loop, _ in loops._servers if loop.is_closed()]


def test_who_gives_up_does_not_confuse_the_replies_of_others(cache):
    cache.set_many({f"key-{number}": number for number in range(100)})

    async def use() -> list[Any]:
        tasks = [asyncio.create_task(cache.aget(f"key-{number}")) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return [each for each in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(each, int)]

    assert asyncio.run(use()) == list(range(1, 100, 2))


@pytest.mark.parametrize("turns", [1, 3, 5, 8, 12])
def test_who_gives_up_while_a_lock_is_taken_leaves_it_to_others(cache, empty, turns):
    async def story() -> bool:
        lock = cache.lock("key", timeout=600)
        taking = asyncio.create_task(lock.aacquire())
        for _ in range(turns):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.wait([taking])
        if not taking.cancelled():
            await lock.arelease()
        return bool(await cache.lock("key", timeout=600).aacquire(blocking=False))

    assert asyncio.run(story())


def test_a_loop_finds_the_server_again_after_it_was_lost(cache, empty):
    async def use() -> int:
        await cache.aset("key", 7)
        empty.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        # The end of the connection arrives in a turn of the loop.
        await asyncio.sleep(0.01)
        found: int = await cache.aget("key")
        return found

    assert asyncio.run(use()) == 7


def test_a_loop_does_not_wait_for_ever(empty):
    proxy = Proxy(empty.port)
    cache = RedisCache(proxy.url, {"OPTIONS": {"SOCKET_TIMEOUT": 0.2}})

    async def use() -> None:
        await cache.aset("key", 7)
        proxy.swallow()
        with pytest.raises(RedisUnavailable, match="in time"):
            await cache.aget("key")

    try:
        asyncio.run(use())
    finally:
        proxy.close()


def test_replicas_are_read_and_the_primary_is_written(empty, services_folder):
    replica = TcpRedis(services_folder / "cache-replica")
    with running(replica):
        replica.ask("SET", f"{ROOT}:1:key", "5")
        cache = RedisCache([empty.tcp_url, replica.tcp_url], {})
        cache.set("key", 1)
        assert cache.get("key") == 5
        assert cache.incr("key") == 2
        assert RedisCache(f"{empty.tcp_url};{replica.tcp_url}", {}).get_many(["key"]) == {"key": 5}


@pytest.fixture(params=["default", "behind"])
def lagging(request, empty, services_folder, settings) -> Any:
    """Have a cache whose replica has nothing of what is written to its primary."""
    replica = TcpRedis(services_folder / "cache-lagging")
    with running(replica):
        path = "backroom.cache.backends.redis.RedisCache"
        tiered = {"BACKEND": "backroom.cache.backends.tiered.TieredCache", "LOCATION": "behind"}
        settings.CACHES = {
            "default": tiered,
            request.param: {"BACKEND": path, "LOCATION": [empty.tcp_url, replica.tcp_url]},
        }
        yield replica


@pytest.mark.parametrize("is_page", [False, True])
def test_those_who_read_a_replica_that_lags_behind_compute_once(lagging, monkeypatch, together, is_page, rf):
    all_wait, calls = waiting_for(monkeypatch, 3), []

    def compute() -> str:
        calls.append(1)
        depend_on("found on the way")
        assert all_wait.wait(30)
        return "made"

    view = cache_page(60)(lambda _request: HttpResponse(compute()))
    view_or_value = (lambda _n: view(rf.get("/")).content.decode()) if is_page else (lambda _n: fetch("k", compute))
    assert together(4, view_or_value) == ["made"] * 4
    assert view_or_value(5) == "made"
    assert len(calls) == 1


def test_an_invalidation_is_seen_on_the_primary_though_a_replica_lags_behind(lagging):
    cache: Any = caches["default"]
    invalidate("t")
    asyncio.run(ainvalidate("t"))
    cache.set("k", 1)
    assert getattr(cache, "behind", cache).get_many(["k"]) == {}
    assert cache.get_latest(["k"]) == {"k": 1}
    assert asyncio.run(cache.aget_latest(["k"])) == {"k": 1}


def test_sentinels_say_where_the_primary_is(empty, services_folder):
    sentinel = Sentinel(services_folder / "cache-sentinel", empty)
    with running(sentinel):
        options = {"SENTINELS": [f"127.0.0.1:{sentinel.port}"]}
        cache = RedisCache("redis://tasks/0", {"OPTIONS": options})
        cache.set("key", [1])
        assert cache.get("key") == [1]
        assert asyncio.run(cache.aget("key")) == [1]
        assert empty.ask("EXISTS", f"{ROOT}:1:key") == 1


def test_a_child_has_connections_of_its_own(empty):
    code = f"""
import os, sys, json
from django.conf import settings
settings.configure(SECRET_KEY="x")
from backroom.cache.backends.redis import RedisCache
cache = RedisCache({empty.tcp_url!r}, {{}})
cache.set("n", 0)
children = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        ok = all(cache.incr("n") and cache.get("n") for _ in range(50))
        os._exit(0 if ok else 1)
    children.append(pid)
for _ in range(50):
    cache.incr("n")
codes = [os.waitpid(pid, 0)[1] for pid in children]
print(json.dumps([codes, cache.get("n")]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [[0, 0, 0, 0], 250]


def test_the_server_of_the_settings_is_the_default(settings, empty):
    settings.BACKROOM = {"REDIS_URL": empty.tcp_url}
    cache = RedisCache("", {})
    cache.set("key", 1)
    assert empty.ask("GET", f"{ROOT}:1:key") == "1"
