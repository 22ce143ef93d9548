"""The contract of caches, on RedisCache: on Redis, Valkey and a Cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backroom.cache.backends.redis import RedisCache
from backroom.testing.cache import CacheContract, LockContract
from tests.redis import servers
from tests.services.servers import MissingService


class OnRedis:
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: Any) -> None:
        self.location = redis_server.url
        servers.run_cli("-s", str(redis_server.socket), "FLUSHALL")

    def make_cache(self, **params: Any) -> RedisCache:
        return RedisCache(self.location, params)


class TestRedisCache(OnRedis, CacheContract, LockContract):
    pass


@pytest.fixture(scope="module")
def valkey(services_folder: Path) -> Iterator[servers.TcpRedis]:
    try:
        server = servers.Valkey(services_folder / "cache-valkey")
    except MissingService as missing:
        pytest.fail(str(missing), pytrace=False)
    with servers.running(server):
        yield server


class TestOnValkey(CacheContract, LockContract):
    @pytest.fixture(autouse=True)
    def _server(self, valkey: servers.TcpRedis) -> None:
        self.location = valkey.tcp_url
        valkey.ask("FLUSHALL")

    def make_cache(self, **params: Any) -> RedisCache:
        return RedisCache(self.location, params)


@pytest.fixture(scope="module")
def nodes(services_folder: Path) -> Iterator[list[servers.TcpRedis]]:
    with servers.cluster(services_folder / "cache-cluster") as nodes:
        yield nodes


class TestOnACluster(CacheContract, LockContract):
    @pytest.fixture(autouse=True)
    def _server(self, nodes: list[servers.TcpRedis]) -> None:
        self.location = nodes[0].tcp_url
        for node in nodes:
            node.ask("FLUSHALL")

    def make_cache(self, **params: Any) -> RedisCache:
        return RedisCache(self.location, {"OPTIONS": {"CLUSTER": True}} | params)
