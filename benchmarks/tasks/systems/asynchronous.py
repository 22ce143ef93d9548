"""What the asynchronous systems share: a caller that stays in one event loop, with uvloop as their users run it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from benchmarks.tasks.systems.base import EnqueueLoop, Enqueuer, System


class AsyncSystem(System):
    def sender(self) -> Callable[[int], Awaitable[object]]:
        """Connect; return the coroutine function that enqueues one task. Called inside the event loop."""
        raise NotImplementedError

    async def connected(self) -> Callable[[int], Awaitable[object]]:
        """Return sender(), connected."""
        return self.sender()

    def enqueuer(self) -> Enqueuer:
        loop = new_loop()
        send = loop.run_until_complete(self.connected())
        return lambda number: loop.run_until_complete(send(number))  # type: ignore[arg-type]

    def enqueue_loop(self) -> EnqueueLoop:
        loop = new_loop()
        send = loop.run_until_complete(self.connected())

        async def one_after_the_other(numbers: Iterable[int]) -> None:
            for number in numbers:
                await send(number)

        return lambda numbers: loop.run_until_complete(one_after_the_other(numbers))


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop of uvloop's, set as this thread's."""
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop
