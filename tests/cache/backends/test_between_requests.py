"""What the end of a request does to a cache's connections: nothing, where the cache is one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches, close_caches
from django.test import override_settings

from tests.cache.conftest import UNTIDY
from tests.services.memcached import MemcachedServer


def visit(times: int) -> None:
    """Use the cache in so many requests, after each of which Django closes it."""
    for place in range(times):
        caches["default"].set(f"key{place}", place)
        assert caches["default"].get(f"key{place}") == place
        close_caches()


def test_the_end_of_a_request_costs_no_connection(redis_server: Any) -> None:
    import redis

    ours = {"default": {"BACKEND": "backroom.cache.backends.redis.RedisCache", "LOCATION": redis_server.url}}
    with override_settings(CACHES=ours), redis.Redis.from_url(redis_server.url) as client:
        visit(1)
        before = client.info("stats")["total_connections_received"]
        visit(5)
        assert client.info("stats")["total_connections_received"] == before


def test_the_end_of_a_request_closes_no_file(tmp_path: Path) -> None:
    ours = {
        "default": {
            "BACKEND": "backroom.cache.backends.sqlite.SQLiteCache",
            "LOCATION": str(tmp_path / "cache.sqlite3"),
        }
    }
    with override_settings(CACHES=ours):
        visit(1)
        cache: Any = caches["default"]
        connection = cache._file.link().connection
        visit(5)
        assert cache._file.link().connection is connection


@UNTIDY
@pytest.mark.parametrize(("backend", "is_kept"), [("PyMemcacheCache", False), ("PyLibMCCache", True)])
def test_of_djangos_two_for_memcached_one_connects_anew(
    memcached_server: MemcachedServer, backend: str, is_kept: bool
) -> None:
    """So we learn when Django changes it, and need not name the other one any more."""
    from pymemcache.client.base import Client  # type: ignore[import-untyped]

    djangos = {
        "default": {"BACKEND": f"django.core.cache.backends.memcached.{backend}", "LOCATION": memcached_server.location}
    }
    watching = Client(str(memcached_server.socket))
    with override_settings(CACHES=djangos):
        visit(1)
        before = watching.stats()[b"total_connections"]
        visit(5)
        assert (watching.stats()[b"total_connections"] == before) is is_kept
    watching.close()
