"""In event loops: every verb, in one loop after the other, many at a time."""

import asyncio
from collections.abc import Coroutine
from inspect import markcoroutinefunction
from typing import Any

import pytest

from backroom.testing.cache.case import CacheCase


class Looping(CacheCase):
    """The asynchronous functions."""

    def test_every_verb_in_a_loop(self) -> None:
        async def use(cache: Any) -> None:
            await cache.aset("key", [1], 60)
            assert await cache.aget("key") == [1]
            assert await cache.aadd("key", 2) is False
            assert await cache.ahas_key("key")
            assert await cache.atouch("key", 60) is True
            assert await cache.aset_many({"a": 1, "b": (2,)}) == []
            assert await cache.aget_many(["a", "b", "c"]) == {"a": 1, "b": (2,)}
            assert await cache.aincr("a", 5) == 6
            assert await cache.adecr("a") == 5
            with pytest.raises(ValueError, match="missing"):
                await cache.aincr("missing")
            assert await cache.aget_or_set("d", lambda: 4) == 4
            assert await cache.aincr_version("d") == 2
            assert await cache.aget("d", version=2) == 4
            await cache.adelete_many(["a", "b"])
            assert await cache.aget_many(["a", "b"]) == {}
            assert await cache.adelete("key") is True
            await cache.aset("key", 1, 0)
            assert await cache.aget("key", "none") == "none"
            await cache.aset("key", 1)
            await cache.aclear()
            assert await cache.aget("key") is None
            await cache.aclose()

        asyncio.run(use(self.cache))

    def test_one_backend_in_one_loop_after_another(self) -> None:
        async def count() -> int:
            found: int = await self.cache.aincr("key")
            return found

        self.cache.set("key", 0)
        assert [asyncio.run(count()) for _ in range(3)] == [1, 2, 3]
        assert self.cache.get("key") == 3

    def test_many_at_a_time(self) -> None:
        async def count() -> list[int]:
            return list(await asyncio.gather(*(self.cache.aincr("key") for _ in range(100))))

        self.cache.set("key", 0)
        assert sorted(asyncio.run(count())) == list(range(1, 101))

    def test_a_coroutine_function_may_make_the_value(self) -> None:
        made: list[Coroutine[Any, Any, str]] = []

        async def make() -> str:
            await asyncio.sleep(0)
            return "made"

        def noting() -> Coroutine[Any, Any, str]:
            made.append(make())
            return made[-1]

        async def use() -> list[str]:
            return [await self.cache.aget_or_set("key", markcoroutinefunction(noting)) for _ in range(2)]

        try:
            assert asyncio.run(use()) == ["made", "made"]
        finally:
            # One that a cache left alone would complain of it in a later test.
            for coroutine in made:
                coroutine.close()
