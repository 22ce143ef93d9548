"""One process of one system: fills its cache, and does one thing for a while whenever the driver says so."""

import asyncio
import itertools
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIZES = {"100 B": 100, "10 kB": 10_000}
KEYS = 5_000
MANY = 50
HOT = 100
COROUTINES = 200
FILLED_AT_ONCE = {"100 B": 1_000, "10 kB": 50, "dict": 1_000}
"""A client of memcached reads no reply before it has sent all, and memcached reads on when its replies are read: more than
what a socket holds, and both wait for ever."""


def main() -> None:
    sys.unraisablehook = told
    order = json.loads(sys.stdin.readline())
    cache = set_up(order["caches"], order["database"], makes_tables=order["number"] == 0)
    work = Work(cache, order["entries"], order["number"])
    for line in sys.stdin:
        verb, size, begin, seconds, is_once = json.loads(line)
        work.size = size
        answer = work.fill() if verb == "fill" else work.rate(verb, begin, seconds, is_once=is_once)
        print(json.dumps(answer), flush=True)


def told(trouble: Any) -> None:
    """Pass over what Python 3.13 says of each connection that pylibmc makes, a traceback at a time; show all else."""
    if "PyMapping_HasKeyString" not in (trouble.err_msg or ""):
        sys.__unraisablehook__(trouble)


def set_up(setting: dict[str, dict[str, Any]], database: str, *, makes_tables: bool) -> Any:
    import django
    from django.conf import settings

    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": database}
    sqlite["OPTIONS"] = {"init_command": "PRAGMA journal_mode=WAL;", "timeout": 20, "transaction_mode": "IMMEDIATE"}  # type: ignore[assignment]
    settings.configure(SECRET_KEY="benchmark", CACHES=setting, DATABASES={"default": sqlite}, USE_TZ=True)
    django.setup()
    from django.core.cache import caches
    from django.core.management import call_command

    # By the one that fills them, before it does: two at once would collide.
    if makes_tables and setting["default"]["BACKEND"].endswith("DatabaseCache"):
        call_command("createcachetable", verbosity=0)
    return caches["default"]


class Work:
    """What is measured. Every value written is another one, for stores skip what does not change."""

    def __init__(self, cache: Any, entries: int, number: int) -> None:
        self.cache = cache
        self.size = ""
        self.entries = entries
        self.turn = number * 10_000_000
        self.random = random.Random(number)
        self.batch = 0
        # One set of keys for all rounds: how many of them are new to a process must not depend on how quick it is. And as
        # many in a small store as in a large one, so none twice.
        self.keys = [f"key-{n}" for n in self.random.sample(range(entries), k=min(KEYS, entries))]
        self.body = os.urandom(5_000).hex()

    def value(self) -> Any:
        self.turn += 1
        if self.size == "dict":
            return {"id": self.turn, "name": "Ada Lovelace", "tags": ["math", "engine"], "score": 9.75, "active": True}
        return f"{self.turn:08d}{self.body}"[: SIZES[self.size]]

    def fill(self) -> int:
        at_once = FILLED_AT_ONCE[self.size]
        for first in range(0, self.entries, at_once):
            numbers = range(first, min(first + at_once, self.entries))
            with in_bulk(self.cache):
                self.cache.set_many({f"key-{n}": self.value() for n in numbers})
        self.cache.set("sum", 0)
        return self.entries

    def rate(self, verb: str, begin: float, seconds: float, *, is_once: bool) -> float:
        """Return how often a second this was done, from a moment on at which others begin as well.

        It is done for so many seconds; `is_once` says that each key need not have more than one turn.
        """
        keys = self.keys
        match verb:
            case "again":
                keys = keys[:HOT] * (len(keys) // HOT)
            case "anywhere":
                keys = [f"key-{n}" for n in self.random.choices(range(self.entries), k=KEYS * 10)]
        time.sleep(max(begin - time.monotonic(), 0))
        if verb == "together":
            return asyncio.run(self.rate_together(seconds))
        step: Callable[[str], Any] = getattr(self, verb)
        # Fifty at a time take some systems a tenth of a second.
        at_once, between_looks = (MANY, 1) if verb.endswith("many") else (1, 5)
        most = len(keys) // at_once if is_once else math.inf
        last = len(keys) - between_looks
        done, begun = 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < seconds and done < most:
            for key in keys[done % last : done % last + between_looks]:
                step(key)
                done += 1
        return done / taken

    def get(self, key: str) -> None:
        self.cache.get(key)

    again = anywhere = get

    async def rate_together(self, seconds: float) -> float:
        """Return how often a second any of so many coroutines got something, all of them in one event loop."""
        done, begun = 0, time.perf_counter()

        async def read(keys: list[str]) -> None:
            nonlocal done
            for key in itertools.cycle(keys):
                await self.cache.aget(key)
                done += 1
                if time.perf_counter() - begun >= seconds:
                    return

        await asyncio.gather(*(read(self.keys[place::COROUTINES]) for place in range(COROUTINES)))
        return done / (time.perf_counter() - begun)

    def miss(self, key: str) -> None:
        self.cache.get(f"no-{key}")

    def set(self, key: str) -> None:
        self.cache.set(key, self.value())

    def get_many(self, _key: str) -> None:
        self.cache.get_many(self._some())

    def set_many(self, _key: str) -> None:
        self.cache.set_many({key: self.value() for key in self._some()})

    def incr(self, _key: str) -> None:
        self.cache.incr("sum")

    def _some(self) -> list[str]:
        """Return the next keys, all of them by turns."""
        first = self.batch * MANY % len(self.keys)
        self.batch += 1
        return self.keys[first : first + MANY]


@contextmanager
def in_bulk(cache: Any) -> Iterator[None]:
    """Spare the filling what two peers do for each entry: list all files, and commit. What they store is the same."""
    match type(cache).__name__:
        case "FileBasedCache":
            cache._cull = lambda: None  # noqa: SLF001
            yield
            del cache._cull  # noqa: SLF001
        case "DjangoCache":
            with cache._cache.transact():  # noqa: SLF001
                yield
        case _:
            yield


if __name__ == "__main__":
    main()
