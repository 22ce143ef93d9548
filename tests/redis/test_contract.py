"""The contract of stores, kept by Redis and Valkey, and by several shards as far as it is theirs."""

from __future__ import annotations

from typing import Any

import pytest

from backroom.redis import Address, Server, server_of
from backroom.tasks.stores.redis import RedisStore
from backroom.testing.stores import StoreContract


class OnServer(StoreContract):
    """The contract on whatever server the fixture gives."""

    server: Server
    shards = 1

    def make_store(self, backend_name: str) -> Any:
        return RedisStore(self.server, backend_name, shards=self.shards)


class TestRedis(OnServer):
    @pytest.fixture(autouse=True)
    def _empty(self, redis_server: Any) -> None:
        self.server = server_of(Address(url=redis_server.url))
        self.server.call("FLUSHALL")
