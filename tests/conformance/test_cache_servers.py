"""Core Django's own tests of cache backends on RedisCache, and on TieredCache before it, blocking and in event loops."""

from __future__ import annotations

from typing import Any, Final

import pytest
from django.conf import settings
from django.test import SimpleTestCase, TestCase, override_settings
from django.test.signals import setting_changed

from backroom.cache.backends.redis import RedisCache
from backroom.cache.backends.tiered import TieredCache
from tests.conformance.test_cache_backends import OF_THE_CLASS, SUITE, InLoops
from tests.redis.servers import run_cli

REDIS: Final = f"{RedisCache.__module__}.{RedisCache.__qualname__}"
REDIS_IN_LOOPS: Final = f"{__name__}.RedisInLoops"
ON_REDIS: Final = {REDIS, REDIS_IN_LOOPS}
TIERED: Final = f"{TieredCache.__module__}.{TieredCache.__qualname__}"
SLEEPERS: Final = ("test_touch", "test_expiration", "test_forever_timeout", "test_set_many_expiration")
"""They sleep for eleven seconds by the server's clock. RedisCache's own functions do; the contract asks the same in one."""
CULLING: Final = {"cull", "zero_cull"}
"""The aliases that Django's tests of its own RedisCache leave out too: the server decides what it forgets."""


class RedisInLoops(InLoops):
    kind = RedisCache


class TieredInLoops(InLoops):
    kind = TieredCache


class OnTheServer(SimpleTestCase):
    """Puts the aliases of a test's settings onto the server of this run, emptied."""

    location: str

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: Any) -> None:
        run_cli("-s", str(redis_server.socket), "FLUSHALL")
        self.location = redis_server.url

    def setUp(self) -> None:
        super().setUp()
        for params in settings.CACHES.values():
            params["LOCATION"] = self.location if params["BACKEND"] in ON_REDIS else "behind"
        if "behind" not in settings.CACHES and any(each["LOCATION"] == "behind" for each in settings.CACHES.values()):
            settings.CACHES["behind"] = {"BACKEND": REDIS, "LOCATION": self.location}
        setting_changed.send(type(self), setting="CACHES", enter=False)


def on_backend(name: str, path: str, *, without: tuple[str, ...] = ()) -> Any:
    members = {"__module__": __name__, **dict.fromkeys(without)}
    made: Any = type(name, (OnTheServer, SUITE.BaseCacheTests, TestCase), members)
    return override_settings(CACHES=SUITE.caches_setting_for_tests(BACKEND=path, exclude=CULLING))(made)


if SUITE is not None:
    RedisCacheTests = on_backend("RedisCacheTests", REDIS)
    RedisCacheInLoopsTests = on_backend("RedisCacheInLoopsTests", REDIS_IN_LOOPS, without=(*OF_THE_CLASS, *SLEEPERS))
    TieredCacheTests = on_backend("TieredCacheTests", TIERED, without=SLEEPERS)
    TieredCacheInLoopsTests = on_backend(
        "TieredCacheInLoopsTests", f"{__name__}.{TieredInLoops.__qualname__}", without=(*OF_THE_CLASS, *SLEEPERS)
    )
