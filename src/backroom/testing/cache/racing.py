"""Several at once: one winner, no lost sum, one value for all. Each thread has a backend of its own, as in Django."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.db import connections

from backroom.testing.cache.case import CacheCase

THREADS: Final = 8
SECONDS: Final = 60


class Racing(CacheCase):
    """Threads that do the same thing at the same time."""

    def test_of_several_who_add_one_succeeds(self) -> None:
        def add(cache: Any, number: int) -> list[bool]:
            return [cache.add(f"key-{turn}", number) for turn in range(40)]

        added = self.race(add)
        assert [sum(turn) for turn in zip(*added, strict=True)] == [1] * 40
        winners = [turn.index(True) for turn in zip(*added, strict=True)]
        assert [self.cache.get(f"key-{turn}") for turn in range(40)] == winners

    def test_of_several_who_add_after_an_expiry_one_succeeds(self) -> None:
        keys = [f"key-{turn}" for turn in range(20)]
        self.cache.set_many(dict.fromkeys(keys, "old"), self.shortest)
        self.expire("another")
        added = self.race(lambda cache, number: [cache.add(key, number) for key in keys])
        assert [sum(turn) for turn in zip(*added, strict=True)] == [1] * 20

    def test_of_several_who_delete_one_is_told_so(self) -> None:
        keys = [f"key-{turn}" for turn in range(40)]
        self.cache.set_many(dict.fromkeys(keys, 1))
        deleted = self.race(lambda cache, _number: [cache.delete(key) for key in keys])
        assert [sum(turn) for turn in zip(*deleted, strict=True)] == [1] * 40

    def test_sums_lose_nothing(self) -> None:
        self.cache.set("key", 0)
        sums = self.race(lambda cache, _number: [cache.incr("key") for _ in range(50)])
        assert self.cache.get("key") == THREADS * 50
        assert sorted(each for one in sums for each in one) == list(range(1, THREADS * 50 + 1))

    def test_all_get_the_value_that_was_stored_first(self) -> None:
        found = self.race(lambda cache, number: [cache.get_or_set(f"key-{turn}", number) for turn in range(40)])
        assert [len(set(turn)) for turn in zip(*found, strict=True)] == [1] * 40

    def test_writers_do_not_disturb_readers(self) -> None:
        self.cache.set("key", ["whole"] * 1_000)

        def work(cache: Any, number: int) -> bool:
            if number % 2:
                for turn in range(60):
                    cache.set("key", [str(turn)] * 1_000)
                return True
            return all(len(set(cache.get("key"))) == 1 for _ in range(60))

        assert self.race(work) == [True] * THREADS

    def race[T](self, work: Callable[[Any, int], T]) -> list[T]:
        """Call `work` in so many threads, each with a backend of its own, all starting together."""
        return race(self, work)


def race[T](case: CacheCase, work: Callable[[Any, int], T]) -> list[T]:
    """Call `work` in so many threads, each with a backend of its own, all starting together."""
    line = threading.Barrier(THREADS)

    def run(number: int) -> T:
        try:
            cache = case.make_cache()
            line.wait(SECONDS)
            return work(cache, number)
        finally:
            for connection in connections.all(initialized_only=True):
                connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(run, number) for number in range(THREADS)]
        return [future.result(SECONDS) for future in futures]
