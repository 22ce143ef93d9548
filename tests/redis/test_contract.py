"""The contract of stores, kept by Redis and by Valkey, and the histories that Hypothesis makes up for all of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from backroom.redis import Address, Server, server_of
from backroom.tasks.stores import redis, redisrecords
from backroom.tasks.stores.redis import RedisStore
from backroom.testing.stores import StoreContract
from backroom.testing.stores.changing import Changing
from backroom.testing.stores.inserting import Inserting
from backroom.testing.stores.leasing import Leasing
from backroom.testing.stores.racing import Racing
from backroom.testing.stores.reading import Reading
from backroom.testing.stores.sharing import Sharing
from backroom.testing.stores.uniqueness import Uniqueness
from tests.contracts.test_histories import Histories
from tests.redis.servers import TcpRedis


class TestRedisStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        self.server = server

    def make_store(self, backend_name: str) -> Any:
        return RedisStore(self.server, backend_name)


class TestShards(Inserting, Changing, Leasing, Uniqueness, Reading, Sharing, Racing):
    """Several shards keep all of it but the order in which tasks are claimed."""

    @pytest.fixture(autouse=True)
    def _server(self, only: TcpRedis) -> None:
        self.server = server_of(Address(url=only.url))

    def make_store(self, backend_name: str) -> Any:
        return RedisStore(self.server, backend_name, shards=3)


class TestLongOnes(StoreContract):
    """Payloads and results that are kept apart because they are long are no different from others."""

    @pytest.fixture(autouse=True)
    def _server(self, only: TcpRedis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server_of(Address(url=only.url))
        # All of them are, but not so short that the reason would be out of sight.
        monkeypatch.setattr(redisrecords, "LONG", len('["cancelled",'))
        monkeypatch.setattr(redis, "ROW_BYTES", 200)

    def make_store(self, backend_name: str) -> Any:
        return RedisStore(self.server, backend_name)


@pytest.mark.timeout(400)  # A history that breaks a promise is made as short as it goes, which may take minutes.
def test_no_history_breaks_a_promise(server: Server) -> None:
    factory: Any = partial(Histories, RedisStore(server, "contract"), lambda: server.call("FLUSHALL"))
    run_state_machine_as_test(
        factory,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
