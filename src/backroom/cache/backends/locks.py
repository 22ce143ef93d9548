"""A lock in a cache: a key that one holder at a time can add, with a word that says whose it is."""

import asyncio
import random
import secrets
import time
from contextlib import suppress
from typing import Any, Final, Protocol, Self

from backroom.errors import BackroomError

FIRST_NAP: Final = 0.002
LONGEST_NAP: Final = 0.1


class NotAcquired(BackroomError):
    """The lock was not to be had within `blocking_timeout`."""


class Lockable(Protocol):
    """What a lock needs of a cache: adding and comparing are one step each."""

    def add(self, key: Any, value: Any, timeout: Any = ..., version: int | None = ...) -> bool: ...  # noqa: D102
    async def aadd(self, key: Any, value: Any, timeout: Any = ..., version: int | None = ...) -> bool: ...  # noqa: D102
    def delete_if(self, key: Any, value: str, version: int | None = ...) -> bool: ...  # noqa: D102
    async def adelete_if(self, key: Any, value: str, version: int | None = ...) -> bool: ...  # noqa: D102
    def touch_if(self, key: Any, value: str, timeout: float | None, version: int | None = ...) -> bool: ...  # noqa: D102
    async def atouch_if(  # noqa: D102
        self,
        key: Any,
        value: str,
        timeout: float | None,
        version: int | None = ...,
    ) -> bool: ...


class CacheLock:
    """A lock for `with` and `async with`, or for `acquire()` and `release()`.

    It is an entry of the cache under its key, which is to be a name that no value has.

    It ends by itself after `timeout` seconds, so a holder that died does not keep it. A holder that takes longer has lost
    it: `release()` and `extend()` then return False, and leave alone whoever holds it now. Whoever wants it waits up to
    `blocking_timeout` seconds, for ever when that is None. A cache may forget, so nothing that must never happen twice
    should rest on it alone.
    """

    def __init__(
        self, cache: Lockable, key: Any, *, timeout: float, blocking_timeout: float | None, version: int | None
    ) -> None:
        if not timeout or timeout < 0:
            msg = f"The lock {key!r} has the timeout {timeout!r}. Use the seconds after which it ends by itself."
            raise ValueError(msg)
        self._cache = cache
        self._key = key
        self._timeout = timeout
        self._blocking_timeout = blocking_timeout
        self._version = version
        self._word = ""

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take the lock, and tell whether it was to be had."""
        word = secrets.token_hex(16)
        naps = _Naps(self._blocking_timeout if blocking else 0)
        while not self._cache.add(self._key, word, timeout=self._timeout, version=self._version):
            if (nap := naps.next()) is None:
                return False
            time.sleep(nap)
        self._word = word
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Take the lock, and tell whether it was to be had."""
        word = secrets.token_hex(16)
        naps = _Naps(self._blocking_timeout if blocking else 0)
        try:
            while not await self._cache.aadd(self._key, word, timeout=self._timeout, version=self._version):
                if (nap := naps.next()) is None:
                    return False
                await asyncio.sleep(nap)
        except asyncio.CancelledError:
            # It may have been taken all the same. If it cannot be given back either, it ends with its timeout.
            with suppress(Exception):
                await self._cache.adelete_if(self._key, word, version=self._version)
            raise
        self._word = word
        return True

    def release(self) -> bool:
        """Give the lock back; tell whether it was still ours."""
        word, self._word = self._word, ""
        return bool(word) and self._cache.delete_if(self._key, word, version=self._version)

    async def arelease(self) -> bool:
        """As `release`."""
        word, self._word = self._word, ""
        return bool(word) and await self._cache.adelete_if(self._key, word, version=self._version)

    def extend(self, seconds: float | None = None) -> bool:
        """Hold the lock for so many seconds from now, as long as at first when None; tell whether it is still ours."""
        seconds = self._timeout if seconds is None else seconds
        return bool(self._word) and self._cache.touch_if(self._key, self._word, seconds, version=self._version)

    async def aextend(self, seconds: float | None = None) -> bool:
        """As `extend`."""
        seconds = self._timeout if seconds is None else seconds
        return bool(self._word) and await self._cache.atouch_if(self._key, self._word, seconds, version=self._version)

    def __enter__(self) -> Self:
        if not self.acquire():
            raise self._not_acquired()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        if not await self.aacquire():
            raise self._not_acquired()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.arelease()

    def _not_acquired(self) -> NotAcquired:
        return NotAcquired(f"The lock {self._key!r} was not to be had within {self._blocking_timeout} s.")


class _Naps:
    """How long to sleep between two tries: longer each time, and never the same as another who waits."""

    def __init__(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._longest = FIRST_NAP

    def next(self) -> float | None:
        nap = self._longest * random.uniform(0.5, 1)  # noqa: S311 - no secret
        self._longest = min(self._longest * 2, LONGEST_NAP)
        if self._deadline is None:
            return nap
        left = self._deadline - time.monotonic()
        return min(nap, left) if left > 0 else None
