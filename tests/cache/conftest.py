"""What the tests of the cache share: a clock that stands still, and every cache that Django and Backroom have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.test import override_settings

from backroom.cache.waiting import troubles
from tests.cache.files import forget_files
from tests.services.memcached import MemcachedServer
from tests.services.running import kept_running

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


class Clock:
    """The wall clock as every module reads it, standing still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have the wall clock stand still."""
    standing = Clock()
    monkeypatch.setattr(time, "time", standing)
    return standing


@pytest.fixture(autouse=True)
def empty_caches() -> Iterator[None]:
    """Begin and end with empty caches, with a second one beside the default."""
    both = {"default": {"BACKEND": LOCMEM}, "other": {"BACKEND": LOCMEM, "LOCATION": "other"}}
    with override_settings(CACHES=both):
        yield
        for alias in both:
            caches[alias].clear()
    forget_files()
    troubles.clear()


BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], dict[str, Any]]] = {
    "locmem": lambda _request, _folder: {"BACKEND": LOCMEM, "LOCATION": "any"},
    "file": lambda _request, folder: {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(folder / "file-cache"),
    },
    "database": lambda _request, _folder: {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache_table",
    },
    "pymemcache": lambda request, _folder: {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": request.getfixturevalue("memcached_server").location,
    },
    "pylibmc": lambda request, _folder: {
        "BACKEND": "django.core.cache.backends.memcached.PyLibMCCache",
        "LOCATION": request.getfixturevalue("memcached_server").location,
    },
    "redis": lambda request, _folder: {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": request.getfixturevalue("redis_server").url,
    },
    "sqlite": lambda _request, folder: {
        "BACKEND": "backroom.cache.backends.sqlite.SQLiteCache",
        "LOCATION": str(folder / "cache.sqlite3"),
    },
}


@pytest.fixture(scope="session")
def memcached_server(services_folder: Path) -> Iterator[MemcachedServer]:
    """Give the memcached server that these tests share."""
    yield from kept_running(partial(MemcachedServer, services_folder / "memcached"))


COMMITTING = pytest.mark.django_db(transaction=True)
# pymemcache leaves its sockets to the collector, and pylibmc trips over its own options in every client it makes.
UNTIDY = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
MARKS = {"database": COMMITTING, "pymemcache": UNTIDY, "pylibmc": UNTIDY}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in BACKENDS])
def any_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Have each cache in turn as the default one; the value is its name."""
    name: str = request.param
    with override_settings(CACHES={"default": BACKENDS[name](request, tmp_path)}):
        if name == "database":
            call_command("createcachetable", verbosity=0)
        yield name
        caches["default"].clear()


@pytest.fixture
def together() -> Callable[..., list[Any]]:
    """Give a function that calls another in so many threads at the same moment, and returns what came of each."""

    def run(times: int, function: Callable[[int], Any]) -> list[Any]:
        from django.db import connections

        gate = threading.Barrier(times)
        results: list[Any] = [None] * times

        def one(place: int) -> None:
            try:
                gate.wait(30)
                results[place] = function(place)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                results[place] = error
            finally:
                connections.close_all()

        threads = [threading.Thread(target=one, args=(place,)) for place in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results

    return run
