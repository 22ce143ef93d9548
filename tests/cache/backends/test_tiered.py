"""TieredCache: the contract before Redis, SQLite and memory, and what another process writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches

from backroom.cache import fetch, forget
from backroom.cache.backends.tiered import TieredCache
from backroom.cache.nearby.memory import Memory
from backroom.cache.nearby.news import STRIPES, NewsOnRedis, NoNews
from backroom.redis import server_of
from backroom.testing.cache import CacheContract, LockContract
from backroom.testing.cache.case import wait_until
from tests.redis.servers import run_cli

REDIS = "backroom.cache.backends.redis.RedisCache"
SQLITE = "backroom.cache.backends.sqlite.SQLiteCache"


class Tiered:
    def make_cache(self, **params: Any) -> TieredCache:
        return TieredCache("behind", params)


class TestBeforeRedis(Tiered, CacheContract, LockContract):
    @pytest.fixture(autouse=True)
    def _behind(self, redis_server: Any, settings: Any) -> None:
        run_cli("-s", str(redis_server.socket), "FLUSHALL")
        settings.CACHES = {"behind": {"BACKEND": REDIS, "LOCATION": redis_server.url}}
        self.make_cache()._memory.changed(None)


class TestBeforeSQLite(Tiered, CacheContract, LockContract):
    @pytest.fixture(autouse=True)
    def _behind(self, tmp_path: Path, settings: Any) -> None:
        settings.CACHES = {"behind": {"BACKEND": SQLITE, "LOCATION": str(tmp_path / "cache.sqlite3")}}


OTHER = """
import sys
from django.conf import settings
settings.configure(SECRET_KEY="for the tests only", CACHES={caches!r})
from backroom.cache.backends.tiered import TieredCache
from django.db import connections
cache = TieredCache("behind", {{}})
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


@pytest.fixture(params=["redis", "sqlite"])
def place(request: Any, tmp_path: Path, settings: Any) -> dict[str, Any]:
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        run_cli("-s", str(server.socket), "FLUSHALL")
        behind = {"BACKEND": REDIS, "LOCATION": server.url}
    else:
        behind = {"BACKEND": SQLITE, "LOCATION": str(tmp_path / "cache.sqlite3")}
    caches: dict[str, Any] = {"behind": behind}
    settings.CACHES = caches
    return caches


@pytest.fixture
def other(place: dict[str, Any]) -> Any:
    """Give a function that has another process run a line of Python."""
    code = OTHER.format(caches=place)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        said, heard = process.stdin, process.stdout

        def run(line: str) -> None:
            said.write(f"{line}\n")
            said.flush()
            assert heard.readline() == "done\n"

        yield run
        said.close()


def kept(cache: TieredCache, key: str) -> bool:
    """Read a key, and tell whether memory answers from now on."""
    cache.get(key)
    return cache._near(cache.make_and_validate_key(key)) is not None


def wait_for_own_news(cache: TieredCache) -> None:
    """Wait until what this cache has told the others has come back to it, as it does on Redis: memory forgets it once more then."""
    news = cache._news
    if not isinstance(news, NewsOnRedis):
        return
    wait_until(lambda: news.hears)
    before = news.tokens[0]
    # It comes after whatever was told before.
    server_of(news._address).call("PUBLISH", news._channel, "[0]")
    wait_until(lambda: news.tokens[0] != before)


# So long that no test passes because an entry became too old.
PATIENT: dict[str, Any] = {"OPTIONS": {"MAX_STALENESS": 3600.0}}


@pytest.mark.parametrize(
    ("act", "after"),
    [
        ("cache.set('key', 'new')", "new"),
        ("cache.delete('key')", None),
        ("cache.set_many({'key': 'many'})", "many"),
        ("cache.clear()", None),
        ("cache.touch('key', 0)", None),
    ],
)
def test_what_another_process_changes_is_not_read_any_more(place, other, act, after):
    cache = TieredCache("behind", PATIENT)
    cache.set("key", "old")
    wait_until(lambda: kept(cache, "key"))
    assert cache.get("key") == "old"
    other(act)
    wait_until(lambda: cache.get("key") == after)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_in_front_of_a_file_a_change_is_seen_at_once(place, other):
    cache = TieredCache("behind", PATIENT)
    for number in range(20):
        cache.set("key", "old")
        assert kept(cache, "key")
        other(f"cache.set('key', {number})")
        assert cache.get("key") == number


def test_what_goes_past_it_is_read_for_max_staleness_at_most(place):
    cache = TieredCache("behind", {"OPTIONS": {"MAX_STALENESS": 0.3}})
    cache.set("key", "old")
    wait_until(lambda: kept(cache, "key"))
    cache.behind.set("key", "new")
    wait_until(lambda: cache.get("key") == "new")


def test_a_hit_asks_nothing_of_the_cache_behind(place, monkeypatch):
    cache = TieredCache("behind", PATIENT)
    cache.set("key", {"list": [1]})
    wait_for_own_news(cache)
    wait_until(lambda: kept(cache, "key"))
    monkeypatch.setattr(cache, "behind", None)
    cache.get("key")["list"].append(2)
    assert cache.get("key") == {"list": [1]}
    assert cache.get_many(["key"]) == {"key": {"list": [1]}}


def test_a_write_between_a_look_behind_and_the_keeping_is_not_lost(place, monkeypatch):
    cache = TieredCache("behind", PATIENT)
    cache.set("key", "old")
    wait_for_own_news(cache)
    behind: Any = cache.behind
    get = behind.get_with_ttl

    def get_and_be_overtaken(*args: Any, **kwargs: Any) -> Any:
        found = get(*args, **kwargs)
        TieredCache("behind", PATIENT).set("key", "new")
        return found

    monkeypatch.setattr(behind, "get_with_ttl", get_and_be_overtaken)
    assert cache.get("key") == "old"
    monkeypatch.undo()
    assert cache.get("key") == "new"


def test_a_process_that_cannot_hear_does_not_read_its_memory(own_redis_server, settings):
    settings.CACHES = {"behind": {"BACKEND": REDIS, "LOCATION": own_redis_server.url}}
    cache = TieredCache("behind", PATIENT)
    cache.set("key", 1)
    wait_until(lambda: kept(cache, "key"))
    own_redis_server.kill()
    wait_until(lambda: not cache._news.hears)
    assert cache._near(cache.make_and_validate_key("key")) is None
    own_redis_server.start()
    wait_until(lambda: cache._news.hears)


def test_what_took_long_to_arrive_is_kept_the_shorter(place, monkeypatch):
    """Another may have replaced it from the moment on in which it was asked for."""
    cache = TieredCache("behind", PATIENT)
    cache.set("key", 1, None)
    wait_for_own_news(cache)
    behind: Any = cache.behind
    get, clock = behind.get_with_ttl, time.monotonic
    late = 0.0
    monkeypatch.setattr("backroom.cache.backends.tiered.time.monotonic", lambda: clock() + late)

    def get_slowly(*args: Any, **kwargs: Any) -> Any:
        nonlocal late
        late = 3000.0
        return get(*args, **kwargs)

    monkeypatch.setattr(behind, "get_with_ttl", get_slowly)
    assert cache.get("key") == 1
    assert kept(cache, "key")
    late = 3700.0
    assert cache._near(cache.make_and_validate_key("key")) is None


def test_who_adds_what_was_forgotten_behind_reads_what_was_added(place):
    cache = TieredCache("behind", PATIENT)
    cache.set("key", "old")
    wait_until(lambda: kept(cache, "key"))
    cache.behind.delete("key")
    assert cache.add("key", "new") is True
    assert cache.get("key") == "new"


def test_a_miss_in_memory_is_one_round_trip(own_redis_server, settings):
    settings.CACHES = {"behind": {"BACKEND": REDIS, "LOCATION": own_redis_server.url}}
    cache = TieredCache("behind", PATIENT)
    cache.set("key", 1, 60)
    server = server_of(cache.behind._address)  # type: ignore[attr-defined]
    with (
        mock.patch.object(server, "call_each", return_value=[b"1", 60_000]) as asked,
        mock.patch.object(server, "call", side_effect=AssertionError("a second round trip")),
    ):
        assert cache.get("key") == 1
    assert asked.call_count == 1


def test_without_a_place_for_its_news_nothing_is_read_from_memory(tmp_path, settings, caplog):
    (tmp_path / "cache.sqlite3-tiers").mkdir()
    settings.CACHES = {"behind": {"BACKEND": SQLITE, "LOCATION": str(tmp_path / "cache.sqlite3")}}
    cache = TieredCache("behind", PATIENT)
    cache.set("key", 1)
    assert cache.get("key") == 1
    assert not kept(cache, "key")
    assert "action=cache_deaf" in caplog.text


def test_the_file_of_the_news_has_no_holes(tmp_path, settings):
    """To write into one when the disk is full ends the process."""
    settings.CACHES = {"behind": {"BACKEND": SQLITE, "LOCATION": str(tmp_path / "cache.sqlite3")}}
    TieredCache("behind", PATIENT).set("key", 1)
    found = (tmp_path / "cache.sqlite3-tiers").stat()
    assert found.st_blocks * 512 >= found.st_size == STRIPES * 8


@pytest.mark.parametrize("behind", ["locmem.LocMemCache", "filebased.FileBasedCache"])
def test_before_one_of_djangos_own_functions_are_cached_and_values_move(behind, tmp_path, settings):
    settings.CACHES = {
        "behind": {"BACKEND": f"django.core.cache.backends.{behind}", "LOCATION": str(tmp_path / "files")},
        "default": {"BACKEND": f"{TieredCache.__module__}.TieredCache", "LOCATION": "behind", **PATIENT},
    }
    numbers = count(7)
    assert [fetch("key", lambda: next(numbers)) for _ in range(3)] == [7, 7, 7]
    # The lock was given back: nobody waits for the next.
    forget("key")
    assert fetch("key", lambda: 8, patience=0) == 8
    cache: Any = caches["default"]
    cache.set("moving", 1)
    assert (cache.get("moving"), cache.incr_version("moving"), cache.get("moving")) == (1, 2, None)
    assert cache.get("moving", version=2) == 1
    assert asyncio.run(cache.aincr_version("moving", version=2)) == 3
    with cache.lock("lock", timeout=5) as lock:
        assert lock.extend(60) is True
    assert cache.get("lock") is None


def test_a_child_of_a_fork_has_a_memory_of_its_own(place):
    cache = TieredCache("behind", PATIENT)
    cache.set("key", "old")
    wait_until(lambda: kept(cache, "key"))
    pid = os.fork()
    if not pid:
        cache.set("key", "new")
        os._exit(0 if cache.get("key") == "new" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    wait_until(lambda: cache.get("key") == "new")


def test_memory_keeps_to_its_budget_and_what_is_asked_for():
    memory = Memory(NoNews, max_bytes=1_000_000, max_entries=100)
    memory.keep("asked for", "x", token=0, until=0)
    for number in range(1_000):
        memory.entries["asked for"].was_used = True
        memory.keep(f"{number}", "x", token=0, until=0)
    assert len(memory.entries) == 100
    assert "asked for" in memory.entries
    for number in range(100):
        memory.keep(f"{number}", "x" * 50_000, token=0, until=0)
    assert memory.bytes <= 1_000_000
    assert memory.bytes == sum(entry.size for entry in memory.entries.values())
    memory.keep("too large", "x" * 2_000_000, token=0, until=0)
    assert "too large" not in memory.entries


POSTGRES = """
import sys, time
from django.conf import settings
settings.configure(
    SECRET_KEY="for the tests only", DATABASES={databases!r},
    CACHES={{"default": {{"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cached"}}}},
)
import django
django.setup()
from django.db import transaction
from django.core.management import call_command
from backroom.cache.backends.tiered import TieredCache
cache = TieredCache("default", {{"OPTIONS": {{"MAX_STALENESS": 3600.0}}}})
def kept():
    cache.get("key")
    return cache._near(cache.make_and_validate_key("key")) is not None
def until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


def test_before_postgres_others_hear_of_a_commit(postgres_server):
    name = postgres_server.create_database()
    place = {"ENGINE": "django.db.backends.postgresql", "HOST": postgres_server.host, "PORT": str(postgres_server.port)}
    code = POSTGRES.format(databases={"default": {**place, "USER": "backroom", "NAME": name}})
    arguments: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([sys.executable, "-c", code], **arguments) as reader,
        subprocess.Popen([sys.executable, "-c", code], **arguments) as writer,
    ):

        def run(process: Any, line: str) -> None:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        run(writer, "call_command('createcachetable', verbosity=0)")
        run(writer, "cache.set('key', 'old')")
        run(reader, "until(kept); assert cache.get('key') == 'old'")
        run(writer, "cache.set('key', 'new')")
        run(reader, "until(lambda: cache.get('key') == 'new')")
        run(reader, "until(kept)")
        run(writer, "block = transaction.atomic(); block.__enter__(); cache.set('key', 'rolled back')")
        run(writer, "assert not kept(); transaction.set_rollback(True); block.__exit__(None, None, None)")
        run(writer, "assert cache.get('key') == 'new'")
        run(reader, "assert cache.get('key') == 'new' and kept()")
        reader.communicate()
        writer.communicate()
    postgres_server.drop_database(name)
