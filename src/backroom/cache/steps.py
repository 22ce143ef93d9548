"""One way to write what happens between a caller and a cache, and two ways to run it: blocking, and in an event loop.

A procedure is a generator. It yields each thing that takes time as a `Step` and is sent its outcome; it knows neither
threads nor loops. `run()` and `arun()` are the only two places that do.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches

type Steps[T] = Generator["Step", Any, T]


@dataclass(frozen=True, slots=True)
class Ask:
    """A call of a cache: `get_many`, or `aget_many` in an event loop."""

    alias: str
    method: str
    args: tuple[Any, ...]

    def now(self) -> Any:
        """Call it and wait."""
        return getattr(caches[self.alias], self.method)(*self.args)

    async def soon(self) -> Any:
        """Call its asynchronous twin."""
        return await getattr(caches[self.alias], f"a{self.method}")(*self.args)


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause of some seconds."""

    seconds: float

    def now(self) -> None:
        """Sleep."""
        time.sleep(self.seconds)

    async def soon(self) -> None:
        """Let others go on meanwhile."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Run:
    """A call of a function of the project's, which may be a coroutine function."""

    function: Callable[[], Any]

    def now(self) -> Any:
        """Call it, in a loop of its own if it needs one."""
        if iscoroutinefunction(self.function):
            return async_to_sync(self.function)()
        return self.function()

    async def soon(self) -> Any:
        """Await it, in a thread if it would block."""
        if iscoroutinefunction(self.function):
            return await self.function()
        answer = await sync_to_async(self.function)()
        return await answer if isawaitable(answer) else answer


type Step = Ask | Wait | Run


def ask(alias: str, method: str, *args: Any) -> Steps[Any]:
    """Call a method of the cache of this alias."""
    return (yield Ask(alias, method, args))


def latest(alias: str, keys: Sequence[str]) -> Steps[dict[str, Any]]:
    """Read several keys as they are now: from the primary, if this cache can say so and reads from replicas."""
    method = "get_latest" if hasattr(caches[alias], "get_latest") else "get_many"
    found: dict[str, Any] = yield from ask(alias, method, keys)
    return found


def run[T](steps: Steps[T]) -> T:
    """Take the steps one after the other, in this thread."""
    advance: Callable[[], Step] = steps.__next__
    while True:
        try:
            step = advance()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            advance = partial(steps.send, step.now())
        except BaseException as error:  # noqa: BLE001 - the procedure is to hear of it, and puts away what it holds
            advance = partial(steps.throw, error)


async def arun[T](steps: Steps[T]) -> T:
    """Take the steps one after the other, in this event loop."""
    advance: Callable[[], Step] = steps.__next__
    while True:
        try:
            step = advance()
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            advance = partial(steps.send, await step.soon())
        except GeneratorExit:
            # Of a coroutine that is closed, in which nothing can be awaited any more: a lock ends with its lease.
            with suppress(RuntimeError):
                steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - as above; a request that was cancelled is one of them
            advance = partial(steps.throw, error)
