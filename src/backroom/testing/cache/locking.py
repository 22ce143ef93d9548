"""`ttl()` and `lock()`: how long is left, and one holder at a time who cannot hold for ever."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest

from backroom.cache.backends.locks import NotAcquired
from backroom.testing.cache.case import CacheCase, wait_until
from backroom.testing.cache.racing import THREADS, race


@contextmanager
def forbidden_in_a_loop(cache: Any, *names: str) -> Iterator[None]:
    """Have blocking functions fail, which would hold everybody up in an event loop."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(cache, name, side_effect=AssertionError(f"{name}() blocks the loop")))
        yield


class Locking(CacheCase):
    """What Django's API does not have."""

    def test_how_long_is_left(self) -> None:
        self.cache.set("minute", 1, 60)
        self.cache.set("for-ever", 1, None)
        assert 50 < self.cache.ttl("minute") <= 60
        assert self.cache.ttl("for-ever") is None
        assert self.cache.ttl("missing") == 0

    def test_a_lifetime_is_not_rounded_up_to_whole_seconds(self) -> None:
        self.cache.set("set", 1, 0.5)
        self.cache.add("added", 1, 0.5)
        self.cache.set_many({"many": 1}, 0.5)
        assert all(self.cache.ttl(key) <= 0.5 for key in ("set", "added", "many"))

    def test_what_moves_to_another_version_keeps_its_lifetime(self) -> None:
        self.cache.set("minute", 1, 60)
        self.cache.set("for-ever", 1, None)
        self.cache.incr_version("minute")
        self.cache.incr_version("for-ever")
        assert 50 < self.cache.ttl("minute", version=2) <= 60
        assert self.cache.ttl("for-ever", version=2) is None

    def test_what_moves_in_an_event_loop_keeps_its_lifetime_too(self) -> None:
        async def move() -> tuple[int, float | None]:
            await self.cache.aset("key", 1, 60)
            return await self.cache.aincr_version("key"), await self.cache.attl("key", version=2)

        moved, left = asyncio.run(move())
        assert moved == 2
        assert left is not None
        assert 50 < left <= 60
        with pytest.raises(ValueError, match="missing"):
            asyncio.run(self.cache.aincr_version("missing"))

    def test_a_value_comes_with_what_is_left(self) -> None:
        self.cache.set("minute", [1], 60)
        self.cache.set("for-ever", 2, None)
        value, left = self.cache.get_with_ttl("minute")
        assert value == [1]
        assert 50 < left <= 60
        assert asyncio.run(self.cache.aget_with_ttl("for-ever")) == (2, None)
        assert self.cache.get_with_ttl("missing", "none") == ("none", 0)

    def test_a_sum_keeps_its_lifetime(self) -> None:
        self.cache.set("minute", 1, 60)
        self.cache.incr("minute")
        assert 50 < self.cache.ttl("minute") <= 60

    def test_a_sum_that_is_no_integer_of_the_stores_keeps_its_lifetime_too(self) -> None:
        for number in (0.5, 2**64):
            self.cache.set("minute", number, 60)
            self.cache.incr("minute")
            assert 50 < self.cache.ttl("minute") <= 60

    def test_a_lock_has_one_holder(self) -> None:
        first, second = self.cache.lock("key"), self.cache.lock("key")
        assert first.acquire() is True
        assert second.acquire(blocking=False) is False
        assert second.release() is False
        assert first.release() is True
        assert second.acquire(blocking=False) is True

    def test_a_lock_ends_by_itself_and_is_not_given_back_twice(self) -> None:
        first, second = self.cache.lock("key", timeout=self.shortest), self.cache.lock("key")
        assert first.acquire()
        wait_until(lambda: second.acquire(blocking=False))
        assert first.extend() is False
        assert first.release() is False
        assert self.cache.lock("key").acquire(blocking=False) is False
        assert second.release() is True

    def test_a_lock_is_held_longer_when_asked_for(self) -> None:
        lock = self.cache.lock("key", timeout=5)
        assert lock.extend() is False
        with lock:
            assert lock.extend(60) is True
            assert 50 < self.cache.ttl("key") <= 60

    def test_who_waits_gets_it_when_it_is_given_back(self) -> None:
        first = self.cache.lock("key")
        first.acquire()
        waiting = threading.Timer(0.02, first.release)
        waiting.start()
        with self.cache.lock("key", blocking_timeout=30):
            waiting.join()

    def test_who_waits_in_vain_is_told_so(self) -> None:
        with (
            self.cache.lock("key"),
            pytest.raises(NotAcquired, match="key"),
            self.cache.lock("key", blocking_timeout=0.01),
        ):
            pytest.fail("two hold it")

    def test_a_lock_without_an_end_is_refused(self) -> None:
        with pytest.raises(ValueError, match="timeout"):
            self.cache.lock("key", timeout=0)

    def test_nobody_is_in_it_beside_another(self) -> None:
        inside: list[int] = []
        together: list[int] = []

        def work(cache: Any, number: int) -> None:
            for _ in range(5):
                with cache.lock("key", timeout=30, blocking_timeout=30):
                    inside.append(number)
                    together.append(len(inside))
                    inside.remove(number)

        race(self, work)
        assert together == [1] * THREADS * 5

    def test_in_an_event_loop(self) -> None:
        inside = 0
        together = []

        async def work() -> None:
            nonlocal inside
            async with self.cache.lock("key", timeout=30):
                inside += 1
                await asyncio.sleep(0)
                together.append(inside)
                inside -= 1

        async def all_of_them() -> None:
            await asyncio.gather(*(work() for _ in range(10)))

        asyncio.run(all_of_them())
        assert together == [1] * 10

    def test_an_event_loop_gives_a_lock_back_and_holds_it_longer_itself(self) -> None:
        async def use() -> list[bool]:
            lock = self.cache.lock("key", timeout=5)
            said = [await lock.aextend(), await lock.aacquire(), await lock.aextend(60)]
            left = await self.cache.attl("key")
            assert left is not None
            assert left > 50
            return [*said, await lock.arelease(), await lock.arelease()]

        with forbidden_in_a_loop(self.cache, "delete_if", "touch_if"):
            assert asyncio.run(use()) == [False, True, True, True, False]
