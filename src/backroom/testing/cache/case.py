"""What the parts of the contract share: the cache, and how one waits for an end."""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

PATIENCE: Final = 15.0
"""Seconds after which something that does not happen has failed."""


class CacheCase:
    """One test's cache."""

    shortest: float = 0.1
    """The seconds of the shortest life that the tests give an entry. Whole ones for a store that has no others."""

    def make_cache(self, **params: Any) -> Any:
        """Return a backend with such parameters (`KEY_PREFIX`, `VERSION`, `TIMEOUT`…) on the store that this test has."""
        raise NotImplementedError

    @cached_property
    def cache(self) -> Any:
        """The cache under test."""
        return self.make_cache()

    @property
    def brief(self) -> float:
        """The seconds of a life that has at least `shortest` of them, where the store cuts the last one short."""
        return 2 * self.shortest

    def expire(self, key: str, seconds: float | None = None) -> None:
        """Store something under a key that has expired when this returns, without a look at it."""
        life = self.shortest if seconds is None else seconds
        self.cache.set(key, 1, life)
        self.cache.set("witness", 1, life)
        self.wait_until_gone("witness")

    def is_gone(self, key: str) -> bool:
        """Tell whether a key has no value, with both of the ways to ask."""
        return self.cache.get(key, self) is self and not self.cache.has_key(key)

    def wait_until_gone(self, key: str) -> None:
        """Return when a key has expired."""
        wait_until(lambda: self.is_gone(key))


def promptly[T](act: Callable[[], T], within: float) -> T:
    """Return what came about within so many seconds: of a machine that stood still longer it is asked again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        begun = time.monotonic()
        found = act()
        if time.monotonic() - begun < within:
            return found
        assert begun < deadline, f"It never took less than {within} s."


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail when it does not come about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
